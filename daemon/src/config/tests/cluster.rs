//! Tests of the cluster's settings: valid combinations, and refusals.

use super::*;

/// The flags that have their own test here, since they do not go with every other.
pub(super) const FLAGS: [&str; 16] = [
    "cluster",
    "cluster-name",
    "cluster-ttl",
    "cluster-heartbeat",
    "isolated-after",
    "fence-after",
    "fence-budget",
    "on-fence",
    "dead-man",
    "signaling-url",
    "api-url",
    "cluster-ca-file",
    "cluster-cert-file",
    "cluster-key-file",
    "cluster-user",
    "cluster-password-file",
];

#[cfg(not(feature = "cluster"))]
#[test]
fn a_daemon_that_was_built_without_its_cluster_says_so() {
    assert!(refusal("--cluster http://127.0.0.1:2379", "").contains("built without its cluster"));
    assert_eq!(refusal("--on-fence socket", ""), "on-fence needs cluster");
}

#[cfg(feature = "cluster")]
mod built {
    use super::*;

    const ETCD: &str = "--cluster http://127.0.0.1:2379";

    fn cluster(arguments: &str, file: &str) -> ClusterConfig {
        load(&format!("{ETCD} {arguments}"), file)
            .unwrap()
            .cluster
            .unwrap()
    }

    #[test]
    fn without_means_to_end_sessions_the_right_is_without_end() {
        for arguments in [
            "",
            "--on-fence socket",
            "--dead-man grant",
            "--on-fence socket --dead-man grant --fence-after never",
        ] {
            let config = cluster(arguments, "");
            assert_eq!(config.fence_after, None, "{arguments}");
            assert!(config.no_takeover_reason.is_some(), "{arguments}");
        }
        let config = cluster("--on-fence socket --dead-man grant", "");
        assert_eq!(
            (config.fence_after, config.no_takeover_reason),
            (Some(Duration::from_secs(30)), None)
        );
        assert_eq!(
            refusal(&format!("{ETCD} --fence-after 20s --on-fence socket"), ""),
            "fence-after needs on-fence and dead-man"
        );
    }

    #[test]
    fn the_file_and_the_flags_say_the_same() {
        let pem = secret_file(IDENTITY);
        let file = "cluster = ['https://a:2379', 'http://b:2379']\ncluster-name = 'tokyo'\ncluster-ttl = '9s'\ncluster-heartbeat = '1s'\n\
            isolated-after = '5s'\nfence-after = '20s'\nfence-budget = '4s'\non-fence = 'exec:/bin/end'\ndead-man = 'grant'\n\
            signaling-url = 'wss://n.example/signaling'\napi-url = 'http://n:3000'\ncluster-ca-file = 'PEM'\n\
            cluster-cert-file = 'PEM'\ncluster-key-file = 'PEM'\ncluster-user = 'sfu'\ncluster-password-file = 'WORD'";
        let word = secret_file("pass word\n");
        let file = file
            .replace("WORD", word.path().to_str().unwrap())
            .replace("PEM", pem.path().to_str().unwrap());
        let flags = "--cluster https://a:2379 --cluster http://b:2379 --cluster-name tokyo --cluster-ttl 9s --cluster-heartbeat 1s \
            --isolated-after 5s --fence-after 20s --fence-budget 4s --on-fence exec:/bin/end --dead-man grant \
            --signaling-url wss://n.example/signaling --api-url http://n:3000 --cluster-ca-file PEM --cluster-cert-file PEM \
            --cluster-key-file PEM --cluster-user sfu --cluster-password-file WORD";
        let flags = flags
            .replace("WORD", word.path().to_str().unwrap())
            .replace("PEM", pem.path().to_str().unwrap());
        let config = load("", &file).unwrap().cluster.unwrap();
        assert_eq!(load(&flags, "").unwrap().cluster.unwrap(), config);
        for flag in FLAGS {
            assert!(
                file.lines()
                    .any(|line| line.trim_start().starts_with(&format!("{flag} ="))),
                "{flag}"
            );
        }
        let pem = IDENTITY.as_bytes().to_vec();
        assert_eq!(
            config.tls,
            Tls {
                authorities: Some(pem.clone()),
                identity: Some((pem.clone(), pem))
            }
        );
        assert_eq!(
            config.on_fence,
            args::cluster::OnFence::Exec("/bin/end".to_owned())
        );
        assert_eq!(
            (config.fence_after, config.endpoints.len()),
            (Some(Duration::from_secs(20)), 2)
        );
        assert!(
            !format!("{config:?}").contains("pass word"),
            "no log shows it"
        );
        assert_eq!(
            config.login,
            Some(Login {
                user: "sfu".to_owned(),
                password: "pass word".to_owned()
            })
        );
    }

    /// The key of no certificate.
    const OTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3flDX2+n+0o0HoTF\n\
        EzzqLMzW+HxVu2VnhAxTsXb+vJ+hRANCAATZjYI60oZ+r9qNWvoDI5Guv8dao/Oe\n\
        imimrRZzN9db5/qNVWzSsMORe8IWtkYMQulM35DNoCOzSB4IKra7erb2\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn a_key_that_is_not_the_certificates_is_refused() {
        let other = secret_file(OTHER_KEY);
        let (identity, none) = (secret_file(IDENTITY), secret_file("none"));
        let encrypted = secret_file(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        for (certificate, key, problem) in [
            (&identity, &other, "has a key that is not the certificate's"),
            (&identity, &none, "has no PEM private key"),
            (&identity, &encrypted, "has a key that is encrypted"),
            (&none, &identity, "has no PEM certificate"),
        ] {
            let files = format!(
                "--cluster-cert-file {} --cluster-key-file {}",
                certificate.path().display(),
                key.path().display()
            );
            let refused = refusal(&format!("--cluster https://a:2379 {files}"), "");
            assert!(refused.contains(problem), "{refused}");
        }
        let refused = refusal(
            &format!(
                "--cluster https://a:2379 --cluster-ca-file {}",
                none.path().display()
            ),
            "",
        );
        assert!(
            refused.starts_with("cluster-ca-file: ") && refused.contains("has no PEM certificate"),
            "{refused}"
        );
    }

    #[test]
    fn times_are_in_range_and_in_order() {
        let refused = [
            ("--cluster-ttl 1s", "cluster-ttl: got 1s, takes 2s to 10m"),
            (
                "--cluster-heartbeat 10ms",
                "cluster-heartbeat: got 10ms, takes 100ms to 1m",
            ),
            (
                "--isolated-after 3s",
                "isolated-after: got 3s, takes 4s to 1day",
            ),
            (
                "--fence-budget 2days",
                "fence-budget: got 2days, takes 0s to 1day",
            ),
            (
                "--on-fence socket --dead-man grant --fence-after 6s",
                "fence-after: got 6s, takes more than isolated-after (6s)",
            ),
            (
                "--on-fence socket --dead-man grant --fence-after 2days",
                "fence-after: got 2days, takes 0s to 1day",
            ),
        ];
        for (arguments, message) in refused {
            assert_eq!(refusal(&format!("{ETCD} {arguments}"), ""), message);
        }
        assert_eq!(
            cluster("--cluster-ttl 2500ms", "").ttl,
            Duration::from_secs(3),
            "etcd counts whole seconds"
        );
        let many = ["http://a:2379"; ENDPOINTS_MAX + 1].join(",");
        assert_eq!(
            refusal(&format!("--cluster {many}"), ""),
            "cluster: got 10, takes 1 to 9 members"
        );
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused() {
        let refused = [
            ("--cluster-name x", "cluster-name needs cluster"),
            ("--api-url http://a:1", "api-url needs cluster"),
            (
                &format!("{ETCD} --on-fence sora-api"),
                "on-fence = sora-api needs sora-api",
            ),
            (
                &format!("{ETCD} --sora-listen 127.0.0.1:0 --shadow"),
                "shadow cannot go with cluster",
            ),
            (
                &format!("{ETCD} --cluster-ca-file /dev/null"),
                "cluster-ca-file needs an https URL in cluster",
            ),
            (
                "--cluster https://a:2379 --cluster-cert-file /dev/null",
                "cluster-cert-file needs cluster-key-file",
            ),
            (
                &format!("{ETCD} --cluster-user sfu"),
                "cluster-user needs cluster-password-file",
            ),
            (
                &format!("{ETCD} --cluster-password-file /dev/null"),
                "cluster-password-file needs cluster-user",
            ),
            (
                "--cluster https://a:2379 --cluster-key-file /dev/null",
                "cluster-key-file needs cluster-cert-file",
            ),
        ];
        for (arguments, message) in refused {
            assert_eq!(refusal(arguments, ""), message);
        }
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let wrong = [
            "--cluster tcp://a",
            "--cluster http://a:2379/v3",
            "--cluster http://u:p@a:2379",
            "--cluster-name a/b",
            "--on-fence exec:",
            "--on-fence all",
            "--dead-man nobody",
            "--dead-man unit",
            "--fence-after soon",
            "--signaling-url node-01",
        ];
        for arguments in wrong {
            assert!(try_said(arguments).is_err(), "{arguments}");
        }
    }
}
