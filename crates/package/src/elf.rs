//! Which machine an executable is made for, from the first bytes of its ELF header.

/// Bytes that [`machine`] needs: up to and including `e_machine`.
pub(crate) const PREFIX: usize = 20;

/// The machine of this host, named as RPM names architectures.
pub(crate) const HOST: &str = std::env::consts::ARCH;

/// The machine that a 64-bit little-endian ELF program is made for, `x86_64` or `aarch64`, or its number for others;
/// the error says what the bytes are not.
pub(crate) fn machine(start: &[u8]) -> Result<String, &'static str> {
    let head: &[u8; PREFIX] = start.first_chunk().ok_or("it is shorter than an ELF header")?;
    if head[..4] != *b"\x7fELF" {
        return Err("it does not start as an ELF file does");
    }
    if head[4] != 2 || head[5] != 1 {
        return Err("it is not a 64-bit little-endian ELF file");
    }
    let (kind, machine) = (
        u16::from_le_bytes([head[16], head[17]]),
        u16::from_le_bytes([head[18], head[19]]),
    );
    // ET_EXEC, or ET_DYN for a position-independent program.
    if !matches!(kind, 2 | 3) {
        return Err("its ELF type is not that of a program");
    }
    Ok(match machine {
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        other => format!("ELF machine {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u16, machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        head.extend(kind.to_le_bytes());
        head.extend(machine.to_le_bytes());
        head
    }

    #[test]
    fn names_the_machine() {
        assert_eq!(machine(&head(3, 62)).unwrap(), "x86_64");
        assert_eq!(machine(&head(2, 183)).unwrap(), "aarch64");
        assert_eq!(machine(&head(2, 8)).unwrap(), "ELF machine 8");
    }

    #[test]
    fn refuses_what_is_no_program() {
        assert!(machine(b"\x7fELF").is_err());
        assert!(machine(b"#!/bin/sh\nexit 0\n# long enough").is_err());
        assert!(machine(&head(1, 62)).is_err(), "object file");
        let mut narrow = head(2, 62);
        narrow[4] = 1;
        assert!(machine(&narrow).is_err(), "32 bit");
    }

    #[test]
    fn this_test_is_a_program_of_the_host() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(machine(&bytes).unwrap(), HOST);
    }
}
