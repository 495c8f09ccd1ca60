package main

import (
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
	"github.com/urfave/cli/v2"
)

func watchVerb() *verb {
	return &verb{
		name:  "watch",
		form:  "[--lock NAME] [--splay DURATION] [--tag TAG] [--all] [--once] [--addr ADDR] SERVICE -- COMMAND ARG...",
		short: "run COMMAND whenever a service's instances change",
		long: `
Runs COMMAND at the start, and again whenever the instances of SERVICE that are
handed out change: one comes or goes, is well or unwell, drains, or has another
address, weight, tag or meta. COMMAND reads them on its standard input, as JSON in
the form of GET /v1/services/{name}; its environment has PEER_WATCH_SERVICE and
PEER_WATCH_LIVE, the number of instances. A SERVICE that runs nowhere is an empty
list. With --all it is also run for those that are not handed out, and sees them.

Changes while COMMAND runs, waits for the lock or for its splay make one more run,
with the newest state. --lock NAME holds the lock NAME in the shared Redis during
each run, as ` + "`peer lock`" + ` does, so that of a whole fleet one host at a time
reloads. --splay waits a random time up to DURATION before each run but the first.

A COMMAND that fails is run again with the newest state, after a pause of one
second that doubles up to a minute, until it succeeds. While the agent or the Redis
is out of reach COMMAND is left alone; an agent that has just started is believed
once it has joined. Only at the start is one that does not answer an error.

SIGINT, SIGTERM and SIGHUP end it, and are passed to a COMMAND that runs. What
COMMAND leaves running in its process group is stopped when it ends; a daemon that
went into a session of its own is let go.`,
		examples: `
			# write nginx's upstreams, and reload, one host at a time
			peer watch --lock nginx-reload --splay 5s web -- ./reload-nginx
			# what would COMMAND get?
			peer watch --once web -- cat
			# as a systemd unit: Restart=always, ExecStart=
			peer watch web -- sh -c 'jq -r ".instances[]|\"\(.addr):\(.port)\"" >/run/web.list'`,
		exits:   []int{exitUnavailable, exitLost, exitRefused, exitConfig, exitNotRunnable, exitNotFound, exitSignal},
		ends:    "with --once COMMAND's own",
		group:   groupAsk,
		command: true,
		flags: append(clientFlags(
			&cli.StringFlag{Name: "lock", Usage: "hold the lock `NAME` while COMMAND runs"},
			&cli.DurationFlag{Name: "splay", Usage: "before each run but the first wait a random time up to `DURATION`"},
			&cli.StringFlag{Name: "tag", Usage: "only instances with the tag `TAG` of the service"},
			&cli.BoolFlag{Name: "all", Usage: "also instances that are not handed out"},
			&cli.BoolFlag{Name: "once", Usage: "run COMMAND once, with the instances that there are, and end with its exit code"},
			&cli.DurationFlag{Name: "ttl", Usage: "with --lock: it outlives a dead host by `DURATION` (default 15s)", Value: lockclient.DefaultTTL},
			&cli.DurationFlag{Name: "grace", Usage: "from TERM to KILL (default 5s, with --lock at most a third of --ttl)"},
		), flagsOf("redis.url")...),
		run: runWatch,
	}
}

// watchCall is a checked command line of `peer watch`.
type watchCall struct {
	lockCall // its name is empty without a lock
	service  string
	query    api.ServicesQuery
	splay    time.Duration
	once     bool
}

func (inv *invocation) watchCall() (watchCall, error) {
	call := watchCall{
		lockCall: lockCall{
			name: inv.flag("lock"), forever: true, onTimeout: exitTimeout,
			ttl: inv.cli.Duration("ttl"), grace: inv.cli.Duration("grace"),
		},
		splay: inv.cli.Duration("splay"),
		once:  inv.cli.Bool("once"),
		query: api.ServicesQuery{Eligible: !inv.cli.Bool("all"), Tag: inv.flag("tag")},
	}
	var err error
	if call.service, call.argv, err = inv.beforeCommand("SERVICE", "the SERVICE"); err != nil {
		return call, err
	}
	switch {
	case call.splay < 0:
		return call, inv.usage("--splay %v: want 0 or more", call.splay)
	case inv.has("lock") && inv.flag("lock") == "":
		return call, inv.usage("the name of the lock is empty")
	case !inv.has("lock") && inv.has("ttl"):
		return call, inv.usage("--ttl goes with --lock")
	}
	if err := inv.checkLease(&call.lockCall); err != nil {
		return call, err
	}
	call.path, err = inv.findCommand(call.argv[0])
	return call, err
}
