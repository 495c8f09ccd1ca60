package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/urfave/cli/v2"
)

const (
	defaultGrace = 5 * time.Second
	minGrace     = 10 * time.Millisecond
)

func lockVerb() *verb {
	return &verb{
		name:  "lock",
		form:  "[--wait DURATION] [--ttl DURATION] [--grace DURATION] [--exit-on-timeout CODE] NAME -- COMMAND ARG...",
		short: "run COMMAND while holding a lock",
		long: `
Waits until it is this process's turn to hold the lock NAME in the shared Redis,
runs COMMAND, gives the lock back, and ends with COMMAND's own exit code. Waiters
get the lock in the order in which they asked. No shell is involved: COMMAND is
run as it stands, with this process's input, output and error. Its environment
has PEER_LOCK_NAME and PEER_LOCK_FENCE, a number that rises with every grant of
this lock and by which a resource can refuse a holder that is late; variables
that hold the Redis password are taken out of it.

COMMAND runs in a process group of its own. A signal to peer is passed to that
group, once. While waiting, a signal leaves the queue, and COMMAND never starts.
What COMMAND leaves running in its group when it ends is stopped before the lock
is given back; a daemon that went into a session of its own is let go.

The lock is renewed every third of --ttl. When it is lost all the same, because
the Redis stays out of reach or somebody took it by force, COMMAND gets TERM
--grace before the lease ends and KILL at its end, with all its descendants, so
that it is dead before anybody else can hold the lock. This also holds when peer
itself is killed with -9, stopped or suspended. It does not hold for processes of
another user (COMMAND as ` + "`sudo …`" + `; write ` + "`sudo peer lock …`" + `).

COMMAND's parent is lock-guard, a second process of peer. When peer is killed with
-9, COMMAND gets TERM, and KILL --grace later; lock-guard then gives the lock back,
and the next one in line begins at once, as it does when COMMAND or lock-guard is
killed. When peer and lock-guard are both killed (as by an OOM killer that takes the
whole unit, or with the host), or peer just before COMMAND starts, the next one waits
until --ttl has passed.

When peer knows that the lock is lost, the next holder may run already: then COMMAND
gets TERM at once and KILL at most half a second later, however long --grace is. Of a
lock taken by force peer knows at once; of a key that was deleted or a Redis that was
flushed with its next renewal, a third of --ttl later at most.

The Redis is that of the agent's settings: --redis, PEER_REDIS_URL or the
configuration file. Beside a ` + "`peer dev`" + ` none is needed.`,
		examples: `
			# one deployment at a time, in the order of asking
			peer lock deploy -- ./deploy.sh production
			# do it on one host only: the others give up at once
			peer lock --wait 0 --exit-on-timeout 0 nightly -- /usr/local/bin/backup
			# a shell line, with the fence
			peer lock report -- sh -c 'make report && upload --fence "$PEER_LOCK_FENCE"'`,
		exits:   []int{exitUnavailable, exitTimeout, exitLost, exitRefused, exitConfig, exitNotRunnable, exitNotFound, exitSignal},
		group:   groupLock,
		command: true,
		flags: append([]cli.Flag{
			&cli.DurationFlag{Name: "wait", Usage: "give up after `DURATION` (default: never); 0: only if it is free now"},
			&cli.DurationFlag{Name: "ttl", Usage: "the lock outlives a dead host by `DURATION` (default 15s)", Value: lockclient.DefaultTTL},
			&cli.DurationFlag{Name: "grace", Usage: "from TERM to KILL (default 5s, at most a third of --ttl)"},
			&cli.IntFlag{Name: "exit-on-timeout", Usage: "end with `CODE` when the lock is not obtained in time (default 75)", Value: exitTimeout},
			&cli.StringFlag{Name: "addr", Usage: "the agent at `ADDR` to ask for a Redis when none is set (default 127.0.0.1:7980) [$PEER_HTTP_ADDR]"},
		}, flagsOf("redis.url", "redis.wait_replicas")...),
		run: runLock,
	}
}

// lockCall is a checked command line of `peer lock`.
type lockCall struct {
	name      string
	path      string // of the executable
	argv      []string
	forever   bool
	wait      time.Duration
	ttl       time.Duration
	grace     time.Duration
	onTimeout int
	env       []string // beside our own
	stdin     *os.File // nil: our own
}

// beforeCommand splits the arguments of a verb that runs a COMMAND at the first
// `--`. One word stands before it; what names it, and full does so in a sentence.
func (inv *invocation) beforeCommand(what, full string) (word string, argv []string, err error) {
	i := slices.Index(inv.args, "--")
	switch {
	case len(inv.args) == 0:
		return "", nil, inv.usage("%s and a COMMAND are missing", full)
	case i < 0:
		return "", nil, inv.usage("`--` is missing between %s and COMMAND", what)
	case i == 0 || inv.args[0] == "":
		return "", nil, inv.usage("%s is missing before `--`", full)
	case i > 1:
		return "", nil, inv.usage("only %s stands before `--`, not also %q", full, inv.args[1])
	case len(inv.args) == 2 || inv.args[2] == "":
		return "", nil, inv.usage("COMMAND is missing behind `--`")
	}
	return inv.args[0], inv.args[2:], nil
}

// lockCall checks the command line, and that there is such a COMMAND: nobody
// should wait an hour for a lock to hear of a typing error.
func (inv *invocation) lockCall() (lockCall, error) {
	call := lockCall{
		forever:   !inv.has("wait"),
		wait:      inv.cli.Duration("wait"),
		ttl:       inv.cli.Duration("ttl"),
		grace:     inv.cli.Duration("grace"),
		onTimeout: inv.cli.Int("exit-on-timeout"),
	}
	var err error
	if call.name, call.argv, err = inv.beforeCommand("NAME", "the NAME of the lock"); err != nil {
		return call, err
	}
	switch {
	case call.wait < 0:
		return call, inv.usage("--wait %v: want 0 or more; leave it out to wait for ever", call.wait)
	case call.onTimeout < 0 || call.onTimeout > 255:
		return call, inv.usage("--exit-on-timeout %d: want 0 to 255", call.onTimeout)
	}
	err = inv.checkLease(&call)
	if err != nil {
		return call, err
	}
	call.path, err = inv.findCommand(call.argv[0])
	return call, err
}

// checkLease checks --ttl and --grace, and sets the one that follows from the
// other.
func (inv *invocation) checkLease(call *lockCall) error {
	switch {
	case call.ttl < lockclient.MinTTL || call.ttl > lockclient.MaxTTL:
		return inv.usage("--ttl %v: want %v to %v", call.ttl, lockclient.MinTTL, lockclient.MaxTTL)
	case !inv.has("grace"):
		call.grace = min(defaultGrace, call.ttl/3)
	case call.grace < minGrace || call.grace > call.ttl/2:
		return inv.usage("--grace %v: want %v to half of --ttl, which is %v: the lock is renewed at a third of it", call.grace, minGrace, call.ttl/2)
	}
	return nil
}

// findCommand returns the path of COMMAND.
func (inv *invocation) findCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", withCode(exitNotFound, errors.New(inv.verb.name+": COMMAND "+name+" was not found"))
	}
	var ee *exec.Error
	if errors.As(err, &ee) {
		err = ee.Err
	}
	return "", withCode(exitNotRunnable, errors.New(inv.verb.name+": COMMAND "+name+" cannot be run: "+err.Error()))
}

// commandName is what others are shown of COMMAND: never its arguments.
func (c lockCall) commandName() string { return filepath.Base(c.argv[0]) }
