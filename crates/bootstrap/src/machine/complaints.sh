if [ "$systemd" = yes ]; then
    last=$(journalctl -u "$unit" -n 5 --no-pager -o cat 2>/dev/null) || last=
else
    last=$(tail -n 5 "$root/agent/log" 2>/dev/null) || last=
fi
tell last "$(printf '%s' "$last" | tr '\n' ';')"
