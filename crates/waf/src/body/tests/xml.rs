use super::{BodyKind, BodyLimits, read_with};

fn read(body: impl AsRef<[u8]>) -> crate::body::Parsed {
    super::read(BodyKind::Xml, "text/xml", body)
}

fn attributes(parsed: &crate::body::Parsed) -> Vec<String> {
    parsed.xml_attributes.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

#[test]
fn text_and_attributes_are_read() {
    for (body, text, values) in [
        ("<a>b</a>", "b", &[][..]),
        ("<?xml version=\"1.0\"?>\n<a><b>x</b>y<c/></a>\n", "xy", &[]),
        ("<a k='1' l=\"2\"><b k='3'/></a>", "", &["1", "2", "3"]),
        ("<a>&lt;script&gt;&amp;&quot;&apos;</a>", "<script>&\"'", &[]),
        ("<a k='&lt;&#60;&#x3c;'>&#60;&#x3C;</a>", "<<", &["<<<"]),
        ("<a><![CDATA[<script>]]></a>", "<script>", &[]),
        ("<a><!-- no --><?pi no?>yes</a>", "yes", &[]),
        ("<!DOCTYPE a><a>b</a>", "b", &[]),
        ("<a xmlns='urn:x' xmlns:y='urn:y' y:k='v'/>", "", &["v"]),
        ("<a k='a&b'/>", "", &["a&b"]),
        ("<a>ü</a>", "ü", &[]),
    ] {
        let parsed = read(body);
        assert_eq!(parsed.error, None, "{body}");
        assert_eq!(String::from_utf8_lossy(&parsed.xml_text), text, "{body}");
        assert_eq!(attributes(&parsed), values, "{body}");
    }
}

#[test]
fn entities_are_neither_expanded_nor_accepted_when_declared() {
    let parsed = read("<a>&unknown;</a>");
    assert_eq!((parsed.error, parsed.xml_text.as_slice()), (None, &b"&unknown;"[..]));
    for body in [
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY % p SYSTEM 'http://x/'> %p;]><a/>",
        "<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><l>&b;</l>",
    ] {
        let parsed = read(body);
        assert!(parsed.error.unwrap().contains("entities"), "{body}");
        assert!(parsed.xml_text.is_empty(), "{body}");
    }
    assert_eq!(read("<!DOCTYPE a [<!ELEMENT a (#PCDATA)>]><a>b</a>").error, None);
}

#[test]
fn what_is_declared_elsewhere_and_attributes_with_defaults_are_refused() {
    for (body, why) in [
        ("<!DOCTYPE a SYSTEM 'http://x/y.dtd'><a/>", "elsewhere"),
        ("<!DOCTYPE a SYSTEM 'http://x/y.dtd'><a>&x;</a>", "elsewhere"),
        ("<!DOCTYPE a SYSTEM 'http://x/y.dtd' []><a k='&#60;'>&lt;&#x3c;b</a>", "elsewhere"),
        ("<!DOCTYPE a\nPUBLIC '-//x' 'http://x/y.dtd'><a k='&x;'/>", "elsewhere"),
        (
            "<!DOCTYPE plist PUBLIC '-//Apple//DTD PLIST 1.0//EN' 'http://x/PropertyList-1.0.dtd'><plist/>",
            "elsewhere",
        ),
        ("<!DOCTYPE o [<!ATTLIST o q CDATA '1 UNION SELECT pw FROM users'>]><o/>", "attributes"),
        ("<!DOCTYPE o [<!ELEMENT o EMPTY>\n<!ATTLIST o q CDATA #IMPLIED>]><o/>", "attributes"),
    ] {
        let parsed = read(body);
        assert!(parsed.error.unwrap().contains(why), "{body}");
        assert!(parsed.xml_text.is_empty() && parsed.xml_attributes.is_empty(), "{body}");
    }
    for body in [
        "<!DOCTYPE a><a k='&#60;'>&lt;&#x3c;b</a>",
        "<!DOCTYPE a [<!ELEMENT a (#PCDATA)> <!-- SYSTEM -->]><a>&x;</a>",
        "<a>SYSTEM PUBLIC ATTLIST</a>",
    ] {
        assert_eq!(read(body).error, None, "{body}");
    }
}

#[test]
fn what_is_wrong_is_known_when_it_comes() {
    let limits = BodyLimits { xml_depth_max: 3, ..BodyLimits::default() };
    for (body, honest) in [
        (&b"<a><b><c><d>"[..], &b"<a><b></b><c>"[..]),
        (b"<a></b>", b"<a></a>"),
        (b"<a>\xfc<", b"<a>\xc3\xbc"),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"<!DOCTYPE a [<!ELEMENT x (y)>]>"),
    ] {
        let open = |body: &[u8]| {
            let mut reader = crate::body::BodyReader::new(BodyKind::Xml, b"", &limits);
            reader.feed(body);
            reader.feed(b"<z>never looked at</z> ");
            // Nothing is missing at the end of a body that was cut.
            reader.finish_cut()
        };
        let text = String::from_utf8_lossy(body);
        let refused = open(body);
        assert!(refused.error.is_some(), "{text}");
        assert!(!String::from_utf8_lossy(&refused.xml_text).contains("never"), "{text}");
        assert_eq!(open(honest).error, None, "beside {text}");
    }
}

#[test]
fn what_is_not_well_formed_is_an_error() {
    for body in [
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><b/>",
        "x<a/>",
        "<a/>x",
        "&amp;<a/>",
        "<a k=v/>",
        "<a k='1' k='2'/>",
        "no xml",
        "<a k='1/>",
        "<a><![CDATA[x</a>",
        "<!-- <a/>",
        "<",
        "   ",
    ] {
        assert!(read(body).error.is_some(), "{body} was taken for XML");
    }
    assert_eq!(read("").error, None);
}

#[test]
fn every_encoding_is_read_or_refused() {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let narrow = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    let document = "<?xml version='1.0' encoding='UTF-16'?><a>&lt;ü</a>";
    for body in [
        [b"\xff\xfe".as_slice(), &wide("<a>&lt;ü</a>")].concat(),
        [b"\xfe\xff".as_slice(), &narrow("<a>&lt;ü</a>")].concat(),
        wide("<a>&lt;ü</a>"),
        narrow("<a>&lt;ü</a>"),
        [b"\xff\xfe".as_slice(), &wide(document)].concat(),
        b"\xef\xbb\xbf<a>&lt;\xc3\xbc</a>".to_vec(),
        b"<?xml version='1.0' encoding=\"ISO-8859-1\"?><a>&lt;\xfc</a>".to_vec(),
        b"<?xml version='1.0' encoding = 'utf-8' ?><a>&lt;\xc3\xbc</a>".to_vec(),
    ] {
        let parsed = read(&body);
        assert_eq!(parsed.error, None, "{}", String::from_utf8_lossy(&body));
        assert_eq!(parsed.xml_text, "<ü".as_bytes());
    }
    for body in [
        &b"<a>\xfc</a>"[..],
        b"<?xml version='1.0' encoding='utf-7'?><a/>",
        b"<?xml version='1.0' encoding='EBCDIC-CP-US'?><a/>",
        b"\xff\xfe<\0a\0/\0>",
        b"\xff\xfe<\0a\0/\0>\0\0\xd8",
        b"\xff\xfe\0\0<\0\0\0a\0\0\0/\0\0\0>\0\0\0",
        b"<\0\0\0a\0\0\0/\0\0\0>\0\0\0",
    ] {
        assert!(read(body).error.is_some(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn depth_and_attributes_are_held_at_their_limits() {
    let limits = BodyLimits { xml_depth_max: 3, ..BodyLimits::default() };
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(read_with(BodyKind::Xml, "", nested(3), &limits).error, None);
    assert!(read_with(BodyKind::Xml, "", nested(4), &limits).error.unwrap().contains("deeper"));
    let many = |elements: usize, attributes: usize| {
        let attributes: String = (0..attributes).map(|number| format!(" a{number}=''")).collect();
        let elements = format!("<b{attributes}/>").repeat(elements);
        let limits = BodyLimits { no_files_bytes_max: 1 << 20, ..BodyLimits::default() };
        read_with(BodyKind::Xml, "", format!("<a>{elements}</a>"), &limits).error
    };
    assert_eq!(many(1, 256), None);
    assert!(many(1, 257).unwrap().contains("256 attributes of one element"));
    assert_eq!(many(100, 100), None);
    assert!(many(101, 100).unwrap().contains("10000 attributes"));
}
