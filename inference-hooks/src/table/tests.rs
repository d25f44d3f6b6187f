use std::sync::Arc;

use ::parquet::data_type::{ByteArrayType, DoubleType, Int64Type};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;
use crate::hook::{Hook, HookSource};

const MEMORY: u64 = 64 << 20;

fn spec() -> TableSpec {
    TableSpec {
        rows_max: 10_000,
        columns_max: 100,
        columns: Vec::new(),
        time: vec!["timestamp".to_owned(), "time".to_owned()],
        delimiter: None,
    }
}

fn decode(text: impl AsRef<[u8]>) -> Table {
    Table::decode(text.as_ref(), &spec(), MEMORY).unwrap()
}

fn refused(text: impl AsRef<[u8]>) -> Failure {
    Table::decode(text.as_ref(), &spec(), MEMORY).expect_err("no table")
}

/// Names and values, with none for what is missing.
fn columns(table: &Table) -> Vec<(&str, Vec<Option<f32>>)> {
    let present = |value: &f32| (!value.is_nan()).then_some(*value);
    let column = |column: &'_ Column| column.values.iter().map(present).collect();
    table.columns.iter().map(|found| (found.name.as_str(), column(found))).collect()
}

#[test]
fn csv_is_read_however_it_is_written() {
    let expected = [("a", vec![Some(1.5), Some(-2.0)]), ("b c", vec![None, Some(4.0)])];
    for text in [
        "a,b c\n1.5,\n-2,4\n",
        "a;b c\n1,5;\n-2;4\n",
        "a\tb c\r\n1.5\t\r\n-2\t4\r\n",
        "a|b c\n1.5|\n-2|4",
        "\u{feff}a,b c\n1.5,\n-2,4\n",
        "\"a\",\"b c\"\n\"1.5\",\"\"\n\" -2 \",\"4\"\n",
        "\n\na,b c\n1.5\n-2,4,99,98\n",
    ] {
        assert_eq!(columns(&decode(text)), expected, "{text:?}");
    }
}

#[test]
fn what_is_no_number_is_missing() {
    let table =
        decode("a,name\n1,x\nNaN,y\ninf,z\n1e300,u\n-1e38,v\nbroken,w\n1e-42,x\n-0,x\n0x10,x\n");
    let zero = Some(0.0);
    let expected = vec![Some(1.0), None, None, None, None, None, zero, zero, None];
    assert_eq!(columns(&table), [("a", expected)]);
    let latin = decode(b"\xb0C,b\n1,\xff\n2,3\n3,4\n");
    assert_eq!(columns(&latin)[0].0, "\u{fffd}C");
    assert_eq!(columns(&latin)[1].1, [None, Some(3.0), Some(4.0)]);
}

#[test]
fn json_lines_may_lack_keys() {
    let text = "{\"a\": 1, \"b\": null, \"c\": [1]}\r\n\n{\"b\": \"2.5\", \"a\": true}\n{\"late\": 7, \"a\": 3}";
    let expected = [
        ("a", vec![Some(1.0), None, Some(3.0)]),
        ("b", vec![None, Some(2.5), None]),
        ("late", vec![None, None, Some(7.0)]),
    ];
    assert_eq!(columns(&decode(text)), expected);
    let cut = refused("{\"a\": 1}\n{\"a\": ");
    assert!(cut.detail.starts_with("line 2 of the JSON lines is no object: EOF"), "{cut:?}");
    let deep = format!("{{\"a\": {}", "[".repeat(100_000));
    assert_eq!(refused(deep).kind, FailureKind::BadInput);
}

#[test]
fn only_the_columns_that_are_asked_for_are_taken() {
    let mut spec = spec();
    spec.columns = vec!["temp*".to_owned(), "name".to_owned()];
    let table = Table::decode(b"temp_in,rpm,temp_out,name\n1,2,3,x\n", &spec, MEMORY).unwrap();
    let expected =
        [("temp_in", vec![Some(1.0)]), ("temp_out", vec![Some(3.0)]), ("name", vec![None])];
    assert_eq!(columns(&table), expected);
    let none = Table::decode(b"a,b\n1,2\n", &spec, MEMORY).expect_err("no such column");
    assert_eq!(none.detail, "the table has none of the columns that input.columns names");
}

#[test]
fn times_are_exact_in_order_and_written_back_as_they_came() {
    for (times, seconds, back) in [
        (["2024-05-01T00:00:00Z", "2024-05-01T00:00:00.25Z"], 0.25, "2024-05-01T00:00:00.25Z"),
        (["2024-05-01 10:00:00", "2024-05-01 10:01:00"], 60.0, "2024-05-01 10:01:00"),
        (["2024-05-01T08:00:00Z", "2024-05-01T10:00:01+02:00"], 1.0, "2024-05-01T10:00:01+02:00"),
        (["1714521600", "1714521600.125"], 0.125, "1714521600.125"),
        (["1714521600000", "1714521600001"], 0.001, "1714521600001"),
        (["1714521600000000", "1714521600000001"], 0.000_001, "1714521600000001"),
        (["1714521600000000000", "1714521600000000001"], 1e-9, "1714521600000000001"),
        (["0", "10"], 10.0, "10"),
    ] {
        let [first, second] = times;
        // The second comes first in the file.
        let table = decode(format!("Time,a\n{second},2\n{first},1\n,3\nsoon,4\n"));
        assert_eq!(columns(&table), [("a", vec![Some(1.0), Some(2.0)])], "{times:?}");
        assert_eq!((table.rows, table.untimed), (2, 2));
        assert_eq!(table.seconds(), Some(vec![0.0, seconds]), "{times:?}");
        assert_eq!(table.times.as_ref().unwrap().text(1).unwrap(), back);
    }
    assert!(refused("time,a\nnever,1\n").detail.starts_with("the time column holds no time"));
    assert_eq!(decode("when,a\n1,2\n").seconds(), None);
}

#[test]
fn what_is_no_table_is_bad() {
    for (text, detail) in [
        ("", "the table is empty"),
        (" \r\n ", "the table is empty"),
        ("a,b\n", "the table has no rows"),
        ("name\nx\ny\n", "the table has no column of numbers"),
        ("\u{feff}", "the table is empty"),
    ] {
        let found = refused(text);
        assert_eq!(
            (found.detail.as_str(), found.kind),
            (detail, FailureKind::BadInput),
            "{text:?}"
        );
    }
    assert!(refused("1,2\n3,4\n").detail.contains("the names of the columns must stand there"));
    assert!(refused(b"\xff\xfea\0,\0b\0").detail.contains("must be in UTF-8"));
}

#[test]
fn a_table_beyond_a_limit_is_refused() {
    let wide = refused(format!("{}\n1\n", vec!["c"; 1_000_000].join(",")));
    assert_eq!(wide.detail, "the table has more than input.max_columns = 100 columns");
    let long = refused(format!("a\n{}", "1\n".repeat(10_001)));
    assert_eq!(long.detail, "the table has more than input.max_rows = 10000 rows");
    let keys: String = (0..200).map(|key| format!("{{\"k{key}\": 1}}\n")).collect();
    assert_eq!(refused(keys).kind, FailureKind::OverLimit);
    let line = refused(format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20)));
    assert_eq!(line.kind, FailureKind::OverLimit, "{line:?}");
    let memory = Table::decode("a\n1\n2\n3\n".repeat(100).as_bytes(), &spec(), 2_000);
    assert_eq!(memory.expect_err("too little").kind, FailureKind::OverLimit);
}

fn parquet() -> Vec<u8> {
    let schema = "message m { required int64 time (TIMESTAMP(MILLIS, true)); optional double a; required binary s (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let times: Vec<i64> = (0..100).map(|row| 1_714_521_600_000 + row * 500).collect();
    column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let there: Vec<i16> = (0..100).map(|row| i16::from(row != 3)).collect();
    let values: Vec<f64> = (0..99).map(f64::from).collect();
    column.typed::<DoubleType>().write_batch(&values, Some(&there), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&vec!["x".into(); 100], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_is_read() {
    let table = decode(parquet());
    let [(name, values)] = &columns(&table)[..] else { panic!("{table:?}") };
    assert_eq!(
        (*name, values.len(), values[2], values[3], values[4]),
        ("a", 100, Some(2.0), None, Some(3.0))
    );
    assert_eq!(table.seconds().unwrap()[99], 49.5);
    assert_eq!(table.times.as_ref().unwrap().text(1).unwrap(), "2024-05-01T00:00:00.5Z");
}

#[test]
fn a_damaged_parquet_file_gives_a_table_or_an_error_and_nothing_worse() {
    let sound = parquet();
    for keep in 4..sound.len() {
        assert_eq!(refused(&sound[..keep]).kind, FailureKind::BadInput, "{keep}");
    }
    for at in 4..sound.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] ^= flip;
            let _ = Table::decode(&bytes, &spec(), MEMORY);
        }
    }
    let mut few = spec();
    few.rows_max = 99;
    let claimed = Table::decode(&sound, &few, MEMORY).expect_err("too many");
    assert_eq!(claimed.detail, "the table has 100 rows; input.max_rows = 99");
}

#[test]
fn a_derived_table_names_columns_and_times() {
    let table = decode("time,\"=a,b\",c\n2024-05-01T00:00:00Z,1,2\n2024-05-01T00:00:30Z,3,4\n");
    let hook = |format: &str| {
        let text = format!(
            "[hook]\nname = \"t\"\napi = 1\nmatch = [\"*\"]\n[input]\nkind = \"table\"\n\
             [[pass]]\nshader = \"t.wgsl\"\nentry = \"main\"\ndispatch = [\"1\", \"1\"]\n\
             [output.table]\nsuffix = \".t\"\nformat = \"{format}\"\nrows = \"cols\"\ncolumns = [\n\
             {{ name = \"at\", type = \"time\" }}, {{ name = \"of\", type = \"column\" }},\n\
             {{ name = \"value\", type = \"f32\" }}, {{ name = \"loud\", type = \"bool\" }}]\n"
        );
        let files = [("hook.toml", text.as_str()), ("t.wgsl", "")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        Hook::parse(HookSource::new(files.into())).unwrap()
    };
    let words = [1, 0, 0.1_f32.to_bits(), 1, 0, 1, f32::NAN.to_bits(), 0, 0, 2, 0, 0, 2, 0, 0, 0];
    let text = |format| {
        let hook = hook(format);
        let bytes = write(hook.output().table.as_ref().unwrap(), &words, &table).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let csv =
        "at,of,value,loud\n2024-05-01T00:00:30Z,\"=a,b\",0.1,true\n2024-05-01T00:00:00Z,c,,false\n";
    assert_eq!(text("csv"), csv);
    let json = "{\"at\":\"2024-05-01T00:00:30Z\",\"of\":\"=a,b\",\"value\":0.1,\"loud\":true}\n\
                {\"at\":\"2024-05-01T00:00:00Z\",\"of\":\"c\",\"value\":null,\"loud\":false}\n";
    assert_eq!(text("jsonl"), json);
}
