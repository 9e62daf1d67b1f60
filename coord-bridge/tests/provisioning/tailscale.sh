#!/bin/sh
# A tailscale that joins nothing. Beside the name that it was called by it writes everything that
# others on the machine could see of it and of who called it (.seen), its calls (.calls) and the
# key (.key); and it does what .mood says.
mood=$(cat "$0.mood" 2>/dev/null)
{
  tr '\0' '\n' </proc/$$/cmdline
  tr '\0' '\n' </proc/$$/environ
  tr '\0' '\n' </proc/$PPID/cmdline
  tr '\0' '\n' </proc/$PPID/environ
} >>"$0.seen"
echo "$*" >>"$0.calls"
case "$1 $mood" in
  "ip no-address") echo "no current Tailscale IPs" >&2; exit 1 ;;
  "ip "*) echo 100.64.0.7; exit 0 ;;
  "up hangs")
    echo "To authenticate, visit: https://hs.example.org/register/x"
    echo >"$0.hangs"
    # Until the test's folder is gone.
    while [ -e "$0.mood" ]; do sleep 0.05; done
    exit 1 ;;
esac
for argument; do
  case "$argument" in --auth-key=file:*) file=${argument#--auth-key=file:} ;; esac
done
# Twice, as somebody may who looks at it first.
cat "$file" >/dev/null
cat "$file" >"$0.key"
if [ "$mood" = refuses ]; then
  echo "backend error: invalid key: $(cat "$0.key")" >&2
  exit 1
fi
