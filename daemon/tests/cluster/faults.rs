//! Faults and their remedies. A seed decides the order, the targets and the lengths.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use crate::etcd::{Etcd, MEMBERS};
use crate::net::{Net, Way};
use crate::nodes::{Daemons, NODES, PREFIX};

/// The share of packets that a bad line loses, in percent.
const LOSS_PERCENT: u8 = 30;

/// Age of a copy of etcd's data when it is restored: several heartbeats of the nodes.
const COPY_AGE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CutNode,
    CutEtcd,
    NodeOneWay(Way),
    EtcdOneWay(Way),
    StopDaemon,
    StopLeader,
    KillDaemon,
    KillDaemonAndStartAtOnce,
    KillEtcd,
    StopMajority,
    KillMajority,
    CutNodeAndKillDaemon,
    BadLines,
    /// etcd comes up without the claims, and later as it was.
    LostClaims(Content, Beside),
}

/// Contents that replace etcd's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Empty: its data was wiped.
    Nothing,
    /// Its own data of some seconds before, copied back.
    Earlier,
    /// Another cluster, in an etcd with another id.
    OtherCluster,
}

/// Fault of several machines at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    /// A node is cut off, and does not see it.
    CutNode,
}

/// Machines that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Nodes,
    Etcd,
    All,
}

impl Kind {
    pub(crate) const ALL: [Self; 21] = [
        Self::CutNode,
        Self::CutEtcd,
        Self::NodeOneWay(Way::Out),
        Self::NodeOneWay(Way::In),
        Self::EtcdOneWay(Way::Out),
        Self::EtcdOneWay(Way::In),
        Self::StopDaemon,
        Self::StopLeader,
        Self::KillDaemon,
        Self::KillDaemonAndStartAtOnce,
        Self::KillEtcd,
        Self::StopMajority,
        Self::KillMajority,
        Self::CutNodeAndKillDaemon,
        Self::BadLines,
        Self::OF_LOST_CLAIMS[0],
        Self::OF_LOST_CLAIMS[1],
        Self::OF_LOST_CLAIMS[2],
        Self::OF_LOST_CLAIMS[3],
        Self::OF_LOST_CLAIMS[4],
        Self::OF_LOST_CLAIMS[5],
    ];

    /// Faults after which etcd answers without the claims.
    pub(crate) const OF_LOST_CLAIMS: [Self; 6] = [
        Self::LostClaims(Content::Nothing, Beside::Nothing),
        Self::LostClaims(Content::Nothing, Beside::CutNode),
        Self::LostClaims(Content::Earlier, Beside::Nothing),
        Self::LostClaims(Content::Earlier, Beside::CutNode),
        Self::LostClaims(Content::OtherCluster, Beside::Nothing),
        Self::LostClaims(Content::OtherCluster, Beside::CutNode),
    ];

    const fn whose(self) -> Whose {
        match self {
            Self::CutNode
            | Self::NodeOneWay(_)
            | Self::StopDaemon
            | Self::KillDaemon
            | Self::KillDaemonAndStartAtOnce
            | Self::CutNodeAndKillDaemon => Whose::Nodes,
            Self::CutEtcd
            | Self::EtcdOneWay(_)
            | Self::StopLeader
            | Self::KillEtcd
            | Self::StopMajority
            | Self::KillMajority => Whose::Etcd,
            Self::BadLines | Self::LostClaims(..) => Whose::All,
        }
    }

    /// Those that make others take channels over.
    pub(crate) const OF_NODES: [Self; 2] = [Self::CutNode, Self::NodeOneWay(Way::In)];
}

/// Fault with its target and its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) target: usize,
    pub(crate) length: Duration,
}

impl Fault {
    /// The longest is past every deadline of the nodes, and its takeover too.
    pub(crate) fn draw(kind: Kind, rng: &mut Rng) -> Self {
        let target = usize::try_from(rng.u64(..3)).unwrap();
        let length = if rng.u64(..3) == 0 {
            300 + rng.u64(..3_000)
        } else {
            3_000 + rng.u64(..10_000)
        };
        Self {
            kind,
            target,
            length: Duration::from_millis(length),
        }
    }

    /// Those that a takeover follows: longer than a lease and the right together.
    pub(crate) fn draw_long(kind: Kind, rng: &mut Rng) -> Self {
        Self {
            length: Duration::from_millis(8_000 + rng.u64(..2_000)),
            ..Self::draw(kind, rng)
        }
    }

    /// Returns true if both affect the same kind of machine, which could then not be repaired one
    /// after the other.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (self.kind.whose(), other.kind.whose()) {
            (Whose::All, _) | (_, Whose::All) => true,
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {} for {:.1?}",
            self.kind,
            self.target + 1,
            self.length
        )
    }
}

/// All machines and what runs on them.
pub(crate) struct Site<'a> {
    // Dropped in this order: processes end before the namespace of their machine.
    pub(crate) daemons: Daemons,
    pub(crate) etcd: Etcd,
    pub(crate) net: Net,
    pub(crate) folder: &'a Path,
}

/// Remedy of a fault.
pub(crate) struct Remedy(Vec<Cure>);

#[derive(Clone, Copy, Debug)]
enum Cure {
    Join(&'static str),
    LoseNothing(&'static str, Way),
    ResumeDaemon(usize),
    ResumeMember(usize),
    StartDaemon(usize),
    StartMember(usize),
    BringBackEtcd,
}

impl Site<'_> {
    pub(crate) async fn inject(&mut self, fault: Fault) -> Remedy {
        let (target, next) = (fault.target, (fault.target + 1) % 3);
        Remedy(match fault.kind {
            Kind::CutNode => vec![self.cut(NODES[target])],
            Kind::CutEtcd => vec![self.cut(MEMBERS[target])],
            Kind::NodeOneWay(way) => vec![self.lose(NODES[target], way, 100)],
            Kind::EtcdOneWay(way) => vec![self.lose(MEMBERS[target], way, 100)],
            Kind::StopDaemon => {
                self.daemons.processes[target].signal(Signal::STOP);
                vec![Cure::ResumeDaemon(target)]
            }
            Kind::StopLeader => {
                let leader = self.etcd.leader().await;
                vec![self.stop_member(leader)]
            }
            Kind::KillDaemon => vec![self.kill_daemon(target)],
            Kind::KillDaemonAndStartAtOnce => {
                let cure = self.kill_daemon(target);
                self.cure(cure);
                vec![]
            }
            Kind::KillEtcd => vec![self.kill_member(target)],
            Kind::StopMajority => vec![self.stop_member(target), self.stop_member(next)],
            Kind::KillMajority => vec![self.kill_member(target), self.kill_member(next)],
            Kind::CutNodeAndKillDaemon => vec![self.cut(NODES[target]), self.kill_daemon(target)],
            Kind::LostClaims(content, beside) => self.lose_claims(content, (beside, target)).await,
            Kind::BadLines => NODES
                .into_iter()
                .chain(MEMBERS)
                .map(|machine| self.lose(machine, Way::In, LOSS_PERCENT))
                .collect(),
        })
    }

    async fn lose_claims(
        &mut self,
        content: Content,
        (beside, target): (Beside, usize),
    ) -> Vec<Cure> {
        if content == Content::Earlier {
            self.etcd.keep_copy(&self.net, self.folder);
            // Every node sees more than the copy has, also where no node writes meanwhile: else the copy is as good as the true data, and
            // the true data are older than what is written to the copy.
            self.etcd.leader().await;
            self.etcd.advance().await;
            tokio::time::sleep(COPY_AGE).await;
        }
        let mut cures = vec![Cure::BringBackEtcd];
        if beside == Beside::CutNode {
            cures.push(self.cut(NODES[target]));
        }
        self.etcd.replace(&self.net, self.folder, content);
        self.etcd.leader().await;
        if content == Content::OtherCluster {
            self.etcd.write_other_cluster(PREFIX).await;
        }
        cures
    }

    pub(crate) fn heal(&mut self, remedy: Remedy) {
        for cure in remedy.0 {
            self.cure(cure);
        }
    }

    /// Nobody may have ended by himself.
    pub(crate) fn check_all_run(&mut self) {
        for process in self
            .daemons
            .processes
            .iter_mut()
            .chain(&mut self.etcd.members)
        {
            process.check_runs();
        }
    }

    fn cut(&self, machine: &'static str) -> Cure {
        self.net.cut(machine);
        Cure::Join(machine)
    }

    fn lose(&self, machine: &'static str, way: Way, percent: u8) -> Cure {
        self.net.lose(machine, way, percent);
        Cure::LoseNothing(machine, way)
    }

    fn stop_member(&self, member: usize) -> Cure {
        self.etcd.members[member].signal(Signal::STOP);
        Cure::ResumeMember(member)
    }

    fn kill_member(&mut self, member: usize) -> Cure {
        self.etcd.members[member].kill();
        Cure::StartMember(member)
    }

    /// Restarts a daemon, as its remedy says.
    pub(crate) fn restart_daemon(&mut self, node: usize) {
        let cure = self.kill_daemon(node);
        self.cure(cure);
    }

    fn kill_daemon(&mut self, node: usize) -> Cure {
        self.daemons.processes[node].kill();
        Cure::StartDaemon(node)
    }

    fn cure(&mut self, cure: Cure) {
        match cure {
            Cure::Join(machine) => self.net.join(machine),
            Cure::LoseNothing(machine, way) => self.net.lose_nothing(machine, way),
            Cure::ResumeDaemon(node) => self.daemons.processes[node].signal(Signal::CONT),
            Cure::ResumeMember(member) => self.etcd.members[member].signal(Signal::CONT),
            Cure::StartDaemon(node) => self.daemons.start_one(&self.net, node),
            Cure::BringBackEtcd => self.etcd.bring_back(&self.net, self.folder),
            Cure::StartMember(member) => self.etcd.start_member(&self.net, self.folder, member),
        }
    }
}
