//! `include:`.

use super::{read_with, said_with};

const MAIN: &str = "include: [ more/*.yaml ]
listen: [ 127.0.0.1:0 ]
services: { a: [ http://10.0.0.1 ] }
routes: [ { match: /a, to: a, allow: anyone } ]
";

#[test]
fn joins_lists_and_maps_and_keeps_each_files_folder() {
    let configuration = read_with(
        MAIN,
        &[
            (
                "more/b.yaml",
                "services: { b: [ http://10.0.0.2 ] }\nroutes: [ { match: /b, to: b, allow: anyone } ]\n",
            ),
            ("more/c.yaml", "policies: c/*.cedar\nroutes: [ { match: /c, to: b } ]\n"),
            ("more/c/c.cedar", super::POLICY),
            ("more/.hidden.yaml", "unknown: true"),
            ("more/notes.txt", "unknown: true"),
        ],
    )
    .unwrap();
    let names: Vec<&str> = configuration.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["/a", "/b", "/c"]);
    assert_eq!(configuration.services.len(), 2);
    assert_eq!(configuration.policy_sources()[0].name, "more/c/c.cedar");
    let files: Vec<String> = configuration.files.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(files, ["bastide.yaml", "more/b.yaml", "more/c/c.cedar", "more/c.yaml"]);
    let globs: Vec<String> = configuration.globs.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(globs, ["more/*.yaml", "more/c/*.cedar"]);
}

#[test]
fn faults_name_the_file_that_they_are_in() {
    for (more, said) in [
        (
            vec![("more/b.yaml", "services: { a: [ http://10.0.0.2 ] }")],
            vec!["more/b.yaml:1:13: duplicate key \"a\" (first at bastide.yaml:3)"],
        ),
        (
            vec![("more/b.yaml", "state: x\n"), ("more/c.yaml", "\nstate: y\n")],
            vec!["more/c.yaml:2:1: duplicate key \"state\" (first at more/b.yaml:1)"],
        ),
        (
            vec![("more/b.yaml", "routes: [ { match: /a, to: a, allow: anyone } ]")],
            vec![
                "more/b.yaml:1:11: routes \"/a\" and \"/a\" both match any host /a: make one of them more specific by host, path, method or header (the first is at bastide.yaml:4)",
            ],
        ),
        (
            vec![("more/b.yaml", "routes: { match: /b }")],
            vec![
                "more/b.yaml:1:9: routes is set twice, in ways that cannot be joined (first at bastide.yaml:4)",
            ],
        ),
        (
            vec![("more/b.yaml", "lisen: []")],
            vec!["more/b.yaml:1:1: unknown key \"lisen\" (did you mean \"listen\"?)"],
        ),
        (vec![("more/b.yaml", "[]")], vec!["more/b.yaml:1:1: expected a map of settings, found a list"]),
        (vec![("more/b.yaml", "")], vec!["more/b.yaml:1:1: the file holds no configuration"]),
        (vec![], vec!["bastide.yaml:1:12: include \"more/*.yaml\" matches no file"]),
        (
            vec![("more/b.yaml", "include: ../bastide.yaml")],
            vec!["more/b.yaml:1:10: bastide.yaml is included by itself"],
        ),
        (
            vec![("more/b.yaml", "include: b.yaml")],
            vec!["more/b.yaml:1:10: more/b.yaml is included by itself"],
        ),
        (
            vec![("more/b.yaml", "include: [ ../x/y.yaml, ../x/y.yaml ]"), ("x/y.yaml", "workers: 1")],
            vec!["more/b.yaml:1:25: x/y.yaml is included twice"],
        ),
        (
            vec![("more/b.yaml", "include: gone.yaml")],
            vec!["more/b.yaml:1:10: cannot read more/gone.yaml: no such file"],
        ),
        (
            vec![("more/b.yaml", "include: a/**/b.yaml")],
            vec!["more/b.yaml:1:10: ** is not supported here (name each folder)"],
        ),
    ] {
        assert_eq!(said_with(MAIN, &more), said, "{more:?}");
    }
    // What the file may hold is not missed as well.
    assert_eq!(
        said_with("include: gone.yaml\n", &[]),
        ["bastide.yaml:1:10: cannot read gone.yaml: no such file"]
    );
}
