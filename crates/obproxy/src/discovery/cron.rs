//! Tables of cron: whether a line of one speaks of a home. Such a line may start the proxy or its watchdog again; only a
//! person can tell, so it is shown and left alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use obfleet_wire::agent::CronEntry;

use super::watchdog::mentions;

/// A table on its own, and directories of tables.
const TABLE: &str = "/etc/crontab";
const DIRECTORIES: [&str; 3] = ["/etc/cron.d", "/var/spool/cron", "/var/spool/cron/crontabs"];

/// A larger file is no table.
const LARGEST: u64 = 1 << 20;

/// The lines about a home, in every table that may be read.
pub(super) fn about(home: &Path) -> Vec<CronEntry> {
    let listed = DIRECTORIES
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|entry| entry.path());
    let mut tables: Vec<PathBuf> = std::iter::once(PathBuf::from(TABLE)).chain(listed).collect();
    tables.sort();
    tables.iter().flat_map(|table| of_table(table, home)).collect()
}

fn of_table(table: &Path, home: &Path) -> Vec<CronEntry> {
    let is_small = fs::metadata(table).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
    let text = if is_small {
        fs::read(table).unwrap_or_default()
    } else {
        Vec::new()
    };
    lines_about(&String::from_utf8_lossy(&text), home)
        .map(|line| CronEntry {
            file: table.display().to_string(),
            line,
        })
        .collect()
}

fn lines_about<'a>(text: &'a str, home: &'a Path) -> impl Iterator<Item = usize> + 'a {
    let numbered = (1..).zip(text.lines());
    numbered
        .filter(|(_, line)| !line.trim_start().starts_with('#') && mentions(line, home))
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_run_something_in_the_home_are_told() {
        let table = "# /h/obproxy is started here\n\
                     * * * * * admin cd /h/obproxy && ./bin/obproxyd.sh -c checkalive\n\
                     @reboot admin /h/obproxy2/bin/obproxy\n\
                     * * * * * root ls '/h/obproxy/log'\n";
        let lines: Vec<usize> = lines_about(table, Path::new("/h/obproxy")).collect();
        assert_eq!(lines, [2, 4]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("table");
        fs::write(&file, table).unwrap();
        assert_eq!(of_table(&file, Path::new("/h/obproxy"))[0].line, 2);
        assert_eq!(of_table(&dir.path().join("none"), Path::new("/h/obproxy")), []);
    }
}
