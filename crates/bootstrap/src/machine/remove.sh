end_others
if [ "$(mark)" != "$mark" ]; then
    tell removed no
    return 0
fi
stop_agent
if [ "$systemd" = yes ] && [ -f "/etc/systemd/system/$unit" ]; then
    systemctl disable "$unit"
    rm -f "/etc/systemd/system/$unit"
    systemctl daemon-reload
fi
cd "$root"
# Homes of proxies are nobody's to remove here, and what is in use by them stays with them.
if [ ! -d proxies ] || rmdir proxies 2>/dev/null; then rm -rf packages slots restarts backups removed; fi
for entry in agent/* agent/.[!.]*; do
    [ "$entry" = agent/mark ] || rm -rf "$entry"
done
# Last: until here it can be tried again.
rm -f agent/mark
rmdir agent
cd /
rmdir "$root" 2>/dev/null || true
tell removed yes
