/// A hook: its name, when it runs, and a line of shell that shows what it may be good for.
struct Hook {
    name: &'static str,
    when: &'static str,
    has_secrets: bool,
    example: &'static str,
}

const HOOKS: [Hook; 9] = [
    Hook {
        name: "docker-setup",
        when: "at the end of `server bootstrap` and `setup`, when every host has Docker",
        has_secrets: false,
        example: "ssh \"root@$host\" docker network create shared",
    },
    Hook {
        name: "pre-connect",
        when: "before the first connection to a host",
        has_secrets: true,
        example: "ping -c 1 \"$host\"",
    },
    Hook {
        name: "pre-build",
        when: "before the image is built; failing it keeps anything from being built",
        has_secrets: false,
        example: "git fetch && git diff --quiet HEAD origin/main || { echo 'not what is on origin'; exit 1; }",
    },
    Hook {
        name: "pre-deploy",
        when: "under the lock, when the image has reached every host and nothing is started yet",
        has_secrets: true,
        example: "echo \"$KAMAL_PERFORMER deploys $KAMAL_SERVICE_VERSION to $host\"",
    },
    Hook {
        name: "pre-app-boot",
        when: "before the containers of each batch of hosts are started",
        has_secrets: false,
        example: "echo \"starts on $host\"",
    },
    Hook {
        name: "post-app-boot",
        when: "after the containers of each batch of hosts are started",
        has_secrets: false,
        example: "echo \"started on $host\"",
    },
    Hook {
        name: "post-deploy",
        when: "after success; `KAMAL_RUNTIME` is how long it took, in seconds",
        has_secrets: true,
        example: "echo \"$KAMAL_SERVICE_VERSION is live on $host after $KAMAL_RUNTIME s\"",
    },
    Hook {
        name: "pre-proxy-reboot",
        when: "before the proxy of each group of hosts is replaced",
        has_secrets: false,
        example: "echo \"the proxy restarts on $host\"",
    },
    Hook {
        name: "post-proxy-reboot",
        when: "after the proxy of each group of hosts is replaced",
        has_secrets: false,
        example: "echo \"the proxy runs again on $host\"",
    },
];

/// Returns the name and the text of a sample of every hook.
pub(super) fn hooks() -> impl Iterator<Item = (&'static str, String)> {
    HOOKS.iter().map(|hook| (hook.name, text(hook)))
}

fn text(hook: &Hook) -> String {
    let secrets = if hook.has_secrets {
        "\n# Every secret of the secrets files is in its environment, too."
    } else {
        ""
    };
    format!(
        "#!/bin/sh\n\
         # Runs {when}. A code other than 0 ends the command.\n\
         # Rename this file to `{name}` to use it. It gets KAMAL_RECORDED_AT, KAMAL_PERFORMER, KAMAL_SERVICE,\n\
         # KAMAL_VERSION, KAMAL_SERVICE_VERSION, KAMAL_HOSTS, KAMAL_COMMAND, KAMAL_LOCK, and KAMAL_SUBCOMMAND,\n\
         # KAMAL_ROLES and KAMAL_DESTINATION where there are such.{secrets}\n\
         for host in $(echo \"$KAMAL_HOSTS\" | tr ',' ' '); do\n  {example}\ndone\n",
        when = hook.when,
        name = hook.name,
        example = hook.example,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_a_script() {
        for (name, text) in hooks() {
            let checked = std::process::Command::new("/bin/sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}
