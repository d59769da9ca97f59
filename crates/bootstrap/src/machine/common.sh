# What runs from the agent's directory: the script that keeps the agent running, and the agent. Not what they started.
ours() {
    for process in /proc/[0-9]*; do
        line=$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) || continue
        case "$line" in
            "sh $root/agent/run "*|"$root/agent/obfleet agent "*) echo "${process#/proc/}" ;;
        esac
    done
}
# Ends what earlier acts for the same host still do here: nobody waits for them any more.
end_others() {
    for process in /proc/[0-9]*; do
        [ "${process#/proc/}" != "$$" ] || continue
        line=$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) || continue
        [ "$line" != "sh -s obfleet-bootstrap $name " ] || kill -9 "${process#/proc/}" 2>/dev/null || true
    done
}
mark() {
    if [ -f "$root/agent/mark" ]; then cat "$root/agent/mark"; fi
}
stop_agent() {
    if [ "$systemd" = yes ] && [ -f "/etc/systemd/system/$unit" ]; then systemctl stop "$unit"; fi
    looks=0
    while left=$(ours) && [ -n "$left" ]; do
        looks=$((looks + 1))
        case "$looks" in
            1) kill $left 2>/dev/null || true ;;
            100) kill -9 $left 2>/dev/null || true ;;
            200) echo "process $left does not end" >&2; return 1 ;;
        esac
        sleep 0.1 2>/dev/null || sleep 1
    done
}
