tell now "$(date +%s%N)"
tell name "$(uname -n)"
tell kernel "$(uname -r)"
tell architecture "$(uname -m)"
tell release "$(ID=; ID_LIKE=; VERSION_ID=
    if [ -r /etc/os-release ]; then . /etc/os-release; fi
    case " $ID $ID_LIKE " in
        *" rhel "*) echo "el${VERSION_ID%%.*}" ;;
        *) echo "${ID:-unknown}$VERSION_ID" ;;
    esac)"
if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemctl >/dev/null; then tell systemd yes; fi
missing=
for program in cat chmod cut date df kill ls mkdir mv rm setsid sha256sum sleep tail tr; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
tell missing "$missing"
there=$root
while [ ! -d "$there" ]; do there=${there%/*}; there=${there:-/}; done
if [ -w "$there" ]; then tell writable yes; fi
tell free "$(set -- $(df -Pk "$there" | tail -n 1); echo "$4")"
if [ -f "$root/agent/mark" ] && [ -r "$root/agent/mark" ]; then
    tell mark "$(cat "$root/agent/mark")"
elif [ -d "$root" ]; then
    # An empty directory of ours is what an attempt left that ended early.
    case "$(ls -A "$root")" in
        ""|agent) ;;
        *) tell occupied yes ;;
    esac
fi
if cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | tr -s ' ' | grep -qE ":$port_hex [0-9A-F]+:[0-9A-F]+ 0A "; then
    tell port_taken yes
fi
