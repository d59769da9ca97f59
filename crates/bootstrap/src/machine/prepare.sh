end_others
found=$(mark)
if [ -n "$found" ] && [ "$found" != "$mark" ]; then
    echo "$root has the agent of another host ($found)" >&2
    return 1
fi
if [ -z "$found" ] && [ -d "$root" ]; then
    case "$(ls -A "$root")" in
        ""|agent) ;;
        *) echo "$root holds files of somebody else's" >&2; return 1 ;;
    esac
fi
mkdir -p "$root/agent"
chmod 700 "$root/agent"
if [ -z "$found" ]; then
    printf '%s\n' "$mark" >"$root/agent/mark.part"
    mv "$root/agent/mark.part" "$root/agent/mark"
fi
rm -f "$root"/agent/upload.*
if [ -f "$root/agent/obfleet" ]; then tell has "$(sha256sum <"$root/agent/obfleet" | cut -c 1-64)"; fi
