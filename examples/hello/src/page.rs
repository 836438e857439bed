/// Renders the start page.
pub(crate) fn render(version: &str, host_name: &str) -> String {
    let (version, host_name) = (escape(version), escape(host_name));
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hello from Freehold</title>
<style>
:root {{ color-scheme: light dark; --ink: light-dark(#1c2b24, #e6efe9); --soft: light-dark(#5d7268, #9db3a8);
  --ground: light-dark(#f3f7f4, #121a16); --card: light-dark(#ffffff, #1b2621); --green: light-dark(#1f7a4d, #58c28d) }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground); color: var(--ink);
  font: 17px/1.55 system-ui, sans-serif }}
main {{ background: var(--card); border-radius: 14px; padding: 2.6rem 3rem; max-width: 30rem;
  box-shadow: 0 12px 40px rgb(0 0 0 / .09) }}
h1 {{ margin: 0 0 .4rem; font-size: 1.9rem; letter-spacing: -.02em }}
p {{ margin: 0; color: var(--soft) }}
dl {{ display: grid; grid-template-columns: auto 1fr; gap: .35rem 1.4rem; margin: 1.7rem 0 0 }}
dt {{ color: var(--soft) }} dd {{ margin: 0; font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
.version {{ color: var(--green); font-weight: 600 }}
</style>
</head>
<body>
<main>
<h1>Hello.</h1>
<p>This container was built from a Dockerfile, sent here without a registry and switched to without losing a request.</p>
<dl>
<dt>Version</dt><dd class="version">{version}</dd>
<dt>Container</dt><dd>{host_name}</dd>
</dl>
</main>
</body>
</html>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_version_cannot_bring_markup() {
        let page = super::render("<script>1</script>", "host");
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
    }
}
