tell uid "$(id -u)"
tell user "$(id -un 2>/dev/null || id -u)"
tell home "${HOME:-}"
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then tell sudo yes; fi
