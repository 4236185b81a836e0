//! Responses of etcd, as a story writes them.
//!
//! ```text
//! etcd: read own=17 rev=20 node-02@18:normal:3/100 purged=9     the members, `:leaving` behind one that is; `sent=1s` ago, `received=1s` ago, `epoch=2`, `of-this-start`: this start wrote `own`, `of-this-boot`: one since the machine booted did
//! etcd: read empty                                              no `/cfg`, or `cluster=`, `epoch=`, `history=`, `etcd=`, `made-in=`, `set-back=`, `before=90`
//! etcd: initialized ops [exists] epoch=1                          or `failed="why"`
//! etcd: read crowd=99                                           99 other nodes  ·  read-failed "why"  ·  joined 17 [owner=9]  ·  not-joined "why"  ·  shutdown
//! etcd: replied spam by=17 won=30                                   or `refused owner=node-02@18:30:5s/1s member=17 mode=normal`, or `failed="why"`
//! etcd: found spam refused …, as with `replied`, or failed="why"
//! etcd: released spam 30 [unknown]  ·  published normal [failed="why"]
//! etcd: migrated by=40 spam:won:41 egg:refused ham:claimed:node-02@18:30:5s/1s [more]
//! etcd: fence-notified 1 clients=2  ·  fence-finished 1 [failed="why"]  ·  purged ops node-02 17,18 channels=3
//! etcd: counted node-02@18:3/1 [failed="why"]
//! ```

use std::time::Duration;

use soramode_core::cluster::claim::{Claim, ClaimReply, Conflict};
use soramode_core::cluster::history::{Configuration, ObservedEtcd};
use soramode_core::cluster::{FenceAfter, Incarnation, Token};
use soramode_core::handles::{FenceId, ReplyHandle, Timestamp};
use soramode_core::input::Input;
use soramode_core::member::etcd::{
    EtcdResponse, Init, Joined, Load, MembersRead, NodeRecord, OwnedChannels, PurgedIncarnations,
};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::OrphanedChannels;

use super::read::{Problem, Words, duration};

#[expect(clippy::too_many_lines, reason = "one arm for each form of a line")]
pub(super) fn response(
    mut all: Words,
    now: Timestamp,
    reply_to: impl FnOnce(&str) -> ReplyHandle,
) -> Result<Input, Problem> {
    let failed = all.value::<String>("failed")?;
    let response = match all.next()?.as_str() {
        "read" => EtcdResponse::MembersRead(Box::new(members(&mut all, now)?)),
        "read-failed" => EtcdResponse::MembersReadFailed(all.next()?),
        "joined" => {
            let incarnation = incarnation(&all.next()?)?;
            let owner = all.value("owner")?.map(Incarnation);
            EtcdResponse::Joined(Ok(Joined {
                incarnation,
                owners: owner.into_iter().collect(),
            }))
        }
        "not-joined" => EtcdResponse::Joined(Err(all.next()?)),
        "shutdown" => return all.end(Input::Shutdown),
        "replied" => {
            let channel_id = all.id()?;
            let by = incarnation(&all.value::<String>("by")?.ok_or("takes by=")?)?;
            let won = all
                .value::<u64>("won")?
                .map(|token| ClaimReply::Won(Token(token)));
            let reply = match (failed, won) {
                (Some(why), _) => Err(why),
                (None, Some(won)) => Ok(won),
                (None, None) => Ok(ClaimReply::Refused(found(&mut all)?)),
            };
            EtcdResponse::ClaimReplied {
                channel_id,
                by,
                reply,
            }
        }
        "found" => EtcdResponse::ClaimFound {
            channel_id: all.id()?,
            found: failed.map_or_else(|| found(&mut all), Err),
        },
        "released" => {
            let (channel_id, token) = (all.id()?, number(&all.next()?)?);
            let outcome = if all.has("unknown") {
                Err("no response".to_owned())
            } else {
                Ok(())
            };
            EtcdResponse::Released(channel_id, Token(token), outcome)
        }
        "migrated" => {
            let by = incarnation(&all.value::<String>("by")?.ok_or("takes by=")?)?;
            let more = all.has("more");
            EtcdResponse::ClaimsMigrated {
                by,
                replies: all
                    .take()
                    .iter()
                    .map(|word| migrated(word))
                    .collect::<Result<_, _>>()?,
                more,
            }
        }
        "published" => EtcdResponse::Published(all.id()?, failed.map_or(Ok(()), Err)),
        "fence-notified" => {
            let id = FenceId(number(&all.next()?)?);
            let clients = all.value("clients")?.unwrap_or(0);
            return all.end(Input::FenceNotified { id, clients });
        }
        "fence-finished" => {
            let id = FenceId(number(&all.next()?)?);
            let outcome = failed.map_or(Ok(()), Err);
            return all.end(Input::FenceFinished { id, outcome });
        }
        "purged" => {
            let (reply_to, node_name) = (reply_to(&all.next()?), all.id()?);
            let incarnations = all
                .next()?
                .split(',')
                .filter(|it| !it.is_empty())
                .map(incarnation)
                .collect::<Result<_, _>>()?;
            EtcdResponse::Purged {
                reply_to,
                node_name,
                outcome: Ok(PurgedIncarnations {
                    incarnations,
                    channels: all.value("channels")?.unwrap_or(0),
                }),
            }
        }
        "initialized" => {
            let reply_to = reply_to(&all.next()?);
            let outcome = if let Some(why) = failed {
                Err(why)
            } else if let Some(other) = all.value("other")? {
                Ok(Init::OtherNames(vec![other]))
            } else {
                let exists = all.has("exists");
                let configuration = shown(&mut all)?
                    .0
                    .configuration
                    .ok_or("takes what was written")?;
                Ok(if exists {
                    Init::Exists {
                        epoch: configuration.epoch,
                    }
                } else {
                    Init::Made(configuration)
                })
            };
            EtcdResponse::Initialized { reply_to, outcome }
        }
        "counted" => {
            let owned = all
                .take()
                .iter()
                .map(|word| owned_channels(word))
                .collect::<Result<_, _>>()?;
            EtcdResponse::Counted(failed.map_or(Ok(owned), Err))
        }
        other => return Err(format!("etcd has no response {other}")),
    };
    all.end(Input::Etcd(response))
}

fn members(all: &mut Words, now: Timestamp) -> Result<MembersRead, Problem> {
    let own = all.value::<u64>("own")?.map(Incarnation);
    let purged = all
        .value::<u64>("purged")?
        .map(Incarnation)
        .into_iter()
        .collect();
    let (etcd, configuration_text) = shown(all)?;
    let mut read = MembersRead {
        sent: now
            .boot
            .saturating_sub(all.time("sent")?.unwrap_or_default()),
        received: now
            .boot
            .saturating_sub(all.time("received")?.unwrap_or_default()),
        etcd,
        configuration_text,
        own,
        own_of_this_start: if all.has("of-this-start") { own } else { None },
        own_of_another_boot: all.has("of-another-boot"),
        own_of_this_boot: if all.has("of-this-boot") { own } else { None },
        nodes: all
            .take()
            .iter()
            .map(|word| node(word))
            .collect::<Result<_, _>>()?,
        purged,
    };
    for number in 1..=all.value::<u64>("crowd")?.unwrap_or(0) {
        read.nodes
            .push(node(&format!("other-{number}@{number}:normal:0/100"))?);
    }
    read.nodes.extend(
        own.map(|incarnation| node(&format!("node-01@{}:normal:0/100", incarnation.0)).unwrap()),
    );
    Ok(read)
}

/// An etcd, and its `/cfg`.
fn shown(all: &mut Words) -> Result<(ObservedEtcd, Vec<u8>), Problem> {
    let etcd_cluster_id = all.value("etcd")?.unwrap_or(7);
    let epoch = all.value("epoch")?.unwrap_or(1);
    let configuration = Configuration {
        cluster_id: all
            .value("cluster")?
            .unwrap_or_else(|| "tokyo".parse().unwrap()),
        history_id: all
            .value("history")?
            .unwrap_or_else(|| format!("history-{epoch}").parse().unwrap()),
        epoch,
        etcd_cluster_id: all.value("made-in")?.unwrap_or(etcd_cluster_id),
        set_back: all.value("set-back")?,
    };
    let configuration = (!all.has("empty")).then_some(configuration);
    let text = configuration
        .as_ref()
        .map(|it| format!("{it:?}").into_bytes())
        .unwrap_or_default();
    let (revision, revision_before) = (
        all.value("rev")?.unwrap_or(1_000),
        all.value("before")?.unwrap_or(0),
    );
    Ok((
        ObservedEtcd {
            configuration,
            etcd_cluster_id,
            revision,
            revision_before,
            rollback: None,
        },
        text,
    ))
}

/// `node-02@18:normal:3/100`, or `node-02@18:normal:3/100:leaving`
fn node(word: &str) -> Result<NodeRecord, Problem> {
    let wrong = || format!("{word:?} is no node@incarnation:mode:connections/limit");
    let (word, is_leaving) = word
        .strip_suffix(":leaving")
        .map_or((word, false), |word| (word, true));
    let (name, rest) = word.split_once('@').ok_or_else(wrong)?;
    let [of, mode, load] = rest
        .split(':')
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| wrong())?;
    let (connections, limit) = load.split_once('/').ok_or_else(wrong)?;
    Ok(NodeRecord {
        node_name: name.parse().map_err(|_| wrong())?,
        incarnation: incarnation(of)?,
        mode: mode.parse::<Mode>().ok(),
        load: Load {
            connections: number(connections)?,
            sessions: 0,
            limit: number(limit)?,
            is_leaving,
        },
        signaling_url: Some(format!("wss://{name}/")),
        api_url: None,
        page_url: None,
        version: None,
        since: None,
    })
}

fn found(all: &mut Words) -> Result<Conflict, Problem> {
    if !all.has("refused") {
        return Err("takes won=, refused or failed=".to_owned());
    }
    Ok(Conflict {
        claim: all
            .value::<String>("owner")?
            .map(|word| claim(&word))
            .transpose()?,
        member: all.value("member")?.map(Incarnation),
        mode: all.value("mode")?,
    })
}

/// `node-02@18:30:5s/1s`, or `never` in place of the first time.
fn claim(word: &str) -> Result<Claim, Problem> {
    let wrong = || format!("{word:?} is no node@incarnation:token:fence/budget");
    let (name, rest) = word.split_once('@').ok_or_else(wrong)?;
    let [of, token, terms] = rest
        .split(':')
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| wrong())?;
    let (fence, budget) = terms.split_once('/').ok_or_else(wrong)?;
    Ok(Claim {
        node: name.parse().map_err(|_| wrong())?,
        incarnation: incarnation(of)?,
        fence_after: fence_after(fence)?,
        fence_budget: duration(budget)?,
        token: Token(number(token)?),
    })
}

pub(super) fn fence_after(text: &str) -> Result<FenceAfter, Problem> {
    if text == "never" {
        Ok(FenceAfter::Never)
    } else {
        duration(text).map(|time: Duration| FenceAfter::After(time))
    }
}

/// `spam:won:41`, `egg:refused`, `ham:claimed:node-02@18:30:5s/1s`
fn migrated(word: &str) -> Result<(soramode_protocol::id::ChannelId, ClaimReply), Problem> {
    let parts: Vec<&str> = word.splitn(3, ':').collect();
    let reply = match parts.as_slice() {
        [_, "won", token] => ClaimReply::Won(Token(number(token)?)),
        [_, "refused"] => ClaimReply::Refused(Conflict::default()),
        [_, "claimed", owner] => ClaimReply::Refused(Conflict {
            claim: Some(claim(owner)?),
            ..Conflict::default()
        }),
        _ => {
            return Err(format!(
                "{word:?} is no channel:won:token, channel:refused or channel:claimed:claim"
            ));
        }
    };
    Ok((parts[0].parse().map_err(|_| "a channel")?, reply))
}

/// `node-02@18:3/1`: owns three, and one of them no time gives free.
fn owned_channels(word: &str) -> Result<OwnedChannels, Problem> {
    let wrong = || format!("{word:?} is no node@incarnation:channels/held_until_purge");
    let (name, rest) = word.split_once('@').ok_or_else(wrong)?;
    let (of, counts) = rest.split_once(':').ok_or_else(wrong)?;
    let (channels, held_until_purge) = counts.split_once('/').ok_or_else(wrong)?;
    let channels = OrphanedChannels {
        total: number(channels)?,
        held_until_purge: number(held_until_purge)?,
    };
    Ok(OwnedChannels {
        node_name: name.parse().map_err(|_| wrong())?,
        incarnation: incarnation(of)?,
        channels,
    })
}

fn incarnation(text: &str) -> Result<Incarnation, Problem> {
    number(text).map(Incarnation)
}

fn number(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}
