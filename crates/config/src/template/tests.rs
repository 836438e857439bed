use super::*;

/// Surroundings with two files and commands that say what they are.
#[derive(Debug)]
struct Here {
    ruby: Option<Result<String, String>>,
}

impl Surroundings for Here {
    fn file(&self, path: &str) -> Result<Option<String>, String> {
        Ok(match path {
            "VERSION" => Some("1.2\n".to_owned()),
            ".env" => Some("TOKEN=from-file\nX=file".to_owned()),
            "config.json" => {
                Some("{\"hosts\": [\"a\", \"b\"], \"port\": 80, \"deep\": {\"k\": true}}".to_owned())
            }
            "secret" => return Err("permission denied".to_owned()),
            _ => None,
        })
    }

    fn command(&self, command: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
        match command {
            "fail" => Err("not found".to_owned()),
            _ => Ok(format!("[{command} {}]\n", environment.get("X").map_or("", String::as_str))),
        }
    }

    fn ruby(&self, _: &str, _: &BTreeMap<String, String>) -> Option<Result<String, String>> {
        self.ruby.clone()
    }
}

fn environment() -> BTreeMap<String, String> {
    [("X", "x y"), ("EMPTY", ""), ("LIST", "a, b,c"), ("KAMAL_DESTINATION", "staging")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn rendered(text: &str) -> Result<Rendered, Vec<String>> {
    let mut report = Report::default();
    let here = Here { ruby: None };
    let rendered = render(text, 0, &mut environment(), &here, &mut report);
    let source = crate::Source { path: "f", text };
    let (mistakes, _) = report.into_located(&[source]);
    assert_eq!(rendered.is_none(), !mistakes.is_empty(), "{text}");
    rendered.ok_or_else(|| mistakes.into_iter().map(|mistake| mistake.message).collect())
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let rendered = rendered(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(rendered.text, *expected, "{text}");
    }
}

#[test]
fn values_are_those_of_ruby() {
    check(&[
        ("a: <%= ENV[\"X\"] %>", "a: x y"),
        ("a: <%= ENV['X'] -%>\nb: 1", "a: x yb: 1"),
        ("a: <%= ENV.fetch('X') %>", "a: x y"),
        ("a: <%= ENV.fetch(\"NONE\", \"d\") %>", "a: d"),
        ("a: <%= ENV.fetch(\"NONE\") { \"d\" } %>", "a: d"),
        ("a: <%= ENV[\"NONE\"] || \"d\" %>", "a: d"),
        ("a: <%= ENV[\"EMPTY\"] || \"d\" %>", "a: "),
        ("a: <%= ENV[\"NONE\"] %>", "a: "),
        ("a: <%= ENV[\"KAMAL_DESTINATION\"] %>", "a: staging"),
        ("a: <%= `git rev` %>", "a: [git rev x y]\n"),
        ("a: <%= `git rev`.strip %>", "a: [git rev x y]"),
        ("a: <%= %x(git (rev) #{ENV['X']}).chomp %>", "a: [git (rev) x y x y]"),
        ("a: <%= File.read(\"VERSION\").strip %>", "a: 1.2"),
        ("a: <%= File.exist?('nope') ? 1 : 2.50 %>", "a: 2.5"),
        ("a: <%= \"v#{File.read('VERSION').chomp}-#{ENV[\"X\"]}\\n\" %>", "a: v1.2-x y\n"),
        ("a: <%= 'no #{x} \\' \\n' %>", "a: no #{x} ' \\n"),
        ("a: <%= ENV['X'] == 'x y' ? 'yes' : 'no' %>", "a: yes"),
        ("a: <%= 'on' if ENV['X'] != 'z' && !ENV['NONE'] %>", "a: on"),
        ("a: <%= 'on' unless ENV['X'] %>", "a: "),
        ("a: <%= ENV['LIST'].split(',') %>", "a: [\"a\", \" b\", \"c\"]"),
        ("a: <%= ENV['LIST'].split(',').map(&:strip).join(' ') %>", "a: a b c"),
        ("a: <%= ENV['LIST'].split(',').map { |x| \"h-#{x.strip}\" }.last %>", "a: h-c"),
        ("a: <%= %w[a b].include?('b') %>", "a: true"),
        ("a: <%= JSON.parse(File.read('config.json'))['hosts'][1] %>", "a: b"),
        ("a: <%= JSON.parse(File.read('config.json')).dig('deep', 'k') %>", "a: true"),
        ("a: <%= JSON.parse('{\"a\": [1, null]}')['a'].to_json %>", "a: [1,null]"),
        ("a: <%= ENV['NONE']&.strip || (ENV['X'] + '!') %>", "a: x y!"),
        ("a: <%= ENV['NONE'].nil? ? :none : 1_000 %>", "a: none"),
    ]);
}

#[test]
fn statements_decide_what_is_written() {
    check(&[
        ("<%# note %>a: 1", "a: 1"),
        ("b: 1\n  <%# note -%>\na: 2", "b: 1\n  a: 2"),
        ("a: <%% b", "a: <% b"),
        ("# <%= anything.at_all %>\na: 1", "# \na: 1"),
        ("<% if ENV['X'] %>a<% else %>b<% end %>", "a"),
        ("<% if ENV['NONE'] %>a<% elsif ENV['X'] == 'x y' %>b<% else %>c<% end %>", "b"),
        ("<% unless ENV['NONE'] then %>a<% end %>", "a"),
        ("x:\n  <%- %w[a b].each do |h| -%>\n  - <%= h %>\n  <%- end -%>\ny: 1", "x:\n  - a\n  - b\ny: 1"),
        ("<% [1, 2].each_with_index do |n, i| %><%= n %>:<%= i %> <% end %>", "1:0 2:1 "),
        (
            "<% JSON.parse(File.read('config.json'))['deep'].each do |k, v| %><%= k %>=<%= v %><% end %>",
            "k=true",
        ),
        ("<% hosts = ENV['LIST'].split(','); n ||= 3 %><%= hosts.first %><%= n %>", "a3"),
        ("<%\n  a = 'x'\n  b = a +\n    'y'\n  if b == 'xy'\n    a = 'z'\n  end\n%><%= a %>", "z"),
        (
            "<% require \"dotenv\"; Dotenv.load(\".env\") %><%= ENV['TOKEN'] %> <%= ENV['X'] %>",
            "from-file x y",
        ),
        ("<% require 'dotenv/load' %><%= ENV['TOKEN'] %>", "from-file"),
        ("<% x = 'out'; ['in'].each do |x| %><%= x %><% end %><%= x %>", "inout"),
    ]);
}

#[test]
fn what_is_not_understood_or_cannot_be_had_is_a_mistake() {
    for (text, message) in [
        ("<% if ENV['X'] %>", "this block has no `end`"),
        ("<% end %>", "this tag belongs to no block"),
        ("<% else %>", "this tag belongs to no block"),
        ("<%= ENV.fetch(\"NONE\") %>", "the environment variable `NONE` is not set"),
        ("<%= ENV['NONE'].strip %>", "`strip` is called on nil: there is no value"),
        ("a: <%= ENV[\"X\"]", "the template tag `<%` has no end"),
        ("<%= Time.now %>", "the template needs a Ruby: freehold does not understand `Time.now`"),
        ("<%= unknown %>", "the template needs a Ruby: freehold does not understand `unknown`"),
        ("<%= File.read('nope') %>", "the template cannot use the file `nope`: there is none"),
        ("<%= File.read('secret') %>", "the template cannot use the file `secret`: permission denied"),
        ("<%= `fail` %>", "the template cannot use the command `fail`: not found"),
        ("<%= JSON.parse('{') %>", "the template cannot use the text: it is not JSON (line 1, column 1)"),
        ("<% Dotenv.load %>", "the template needs a Ruby: freehold does not understand `Dotenv.load`"),
        (
            "<% require 'aws-sdk' %>",
            "the template needs a Ruby: freehold does not understand `require \"aws-sdk\"`",
        ),
        ("<% ENV['X'] = 'y' %>", "the template needs a Ruby: freehold does not understand `=`"),
        ("<%= system('id') %>", "the template needs a Ruby: freehold does not understand `(`"),
        ("<%= {a: 1} %>", "the template needs a Ruby: freehold does not understand `{`"),
    ] {
        assert_eq!(rendered(text).unwrap_err().first().map(String::as_str), Some(message), "{text}");
    }
}

#[test]
fn every_mistake_is_told_and_none_twice() {
    let text = "a: <%= ENV.fetch('A') %>\nb: <%= ENV.fetch('B') %>\n";
    assert_eq!(rendered(text).unwrap_err().len(), 2);
    // The `end` of a block that is not understood is no mistake of its own.
    assert_eq!(rendered("<% hosts.map do |x| %>\n<% end %>").unwrap_err().len(), 1);
}

#[test]
fn a_template_cannot_run_for_ever() {
    let list = "%w[a b c d e f g h i j k l m n o p]";
    let text = format!("{}x{}", format!("<% {list}.each do |x| %>").repeat(8), "<% end %>".repeat(8));
    assert_eq!(rendered(&text).unwrap_err(), ["the template does too much"]);
    let deep = format!("<%= {}1{} %>", "(".repeat(500), ")".repeat(500));
    assert!(rendered(&deep).is_err());
    let doubled = "<% a = 'xxxxxxxx' %>".to_owned() + &"<% a = a + a %>".repeat(40) + "<%= a %>";
    assert_eq!(rendered(&doubled).unwrap_err(), ["the template does too much"]);
}

#[test]
fn a_ruby_renders_what_is_beyond() {
    let text = "a: 1\nb: <%= Time.now.year %>\nc: 3\n";
    let mut report = Report::default();
    let here = Here { ruby: Some(Ok("a: 1\nb: 2026\nc: 3\n".to_owned())) };
    let rendered = render(text, 0, &mut environment(), &here, &mut report).unwrap();
    assert_eq!(rendered.text, "a: 1\nb: 2026\nc: 3\n");
    assert_eq!((rendered.place(0, 3, 3, 1).line, rendered.place(0, 3, 3, 1).column), (3, 4));
    assert_eq!(rendered.place(0, 2, 3, 1).line, 1);
    let here = Here { ruby: Some(Err("undefined method".to_owned())) };
    assert!(render(text, 0, &mut environment(), &here, &mut report).is_none());
    assert!(report.has_mistakes());
}

#[test]
fn places_lead_back_to_the_original() {
    let rendered = rendered("ä: <%= ENV['X'] %> z\r\nb: 2").unwrap();
    assert_eq!(rendered.text, "ä: x y z\r\nb: 2");
    let at = |line, column| {
        let place = rendered.place(0, line, column, 1);
        (place.line, place.column)
    };
    assert_eq!(at(1, 0), (1, 1));
    assert_eq!(at(1, 5), (1, 4));
    assert_eq!(at(1, 7), (1, 20));
    assert_eq!(at(2, 3), (2, 4));
}

#[test]
fn a_file_is_rendered_and_its_errors_hide_secrets() {
    let environment = BTreeMap::from([("PASSWORD".to_owned(), "pa$$\nword".to_owned())]);
    let render = |text: &str, ruby: Option<&str>| {
        let here = Here { ruby: ruby.map(|reason| Err(reason.to_owned())) };
        render_file(&Source { path: "db.cnf.erb", text }, &environment, &["pa$$\nword"], &here)
    };
    let rendered = render("password=<%= ENV[\"PASSWORD\"] %>\n", None).expect("a text");
    assert_eq!(rendered, "password=pa$$\nword\n");
    let errors = render("\nx=<%= File.read(ENV[\"PASSWORD\"]) %>", None).expect_err("no such file").render();
    assert!(errors.contains("db.cnf.erb:2:3: the template cannot use the file `[secret]"), "{errors}");
    let errors = render("<%= eval(\"x\") %>", Some("undefined method for pa$$")).expect_err("ruby").render();
    assert!(errors.contains("undefined method for [secret]") && !errors.contains("pa$$"), "{errors}");
}
