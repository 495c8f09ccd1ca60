package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"github.com/peerhq/peer/agent"
)

// leaveWithin bounds a graceful end, from the signal to the exit.
const leaveWithin = 4500 * time.Millisecond

// startLasts is when what only the start needed can go, see returnPages.
const startLasts = 10 * time.Second

func agentVerb() *verb {
	return &verb{
		name:  "agent",
		form:  "[--name NAME] [--bind HOST:PORT] [--join HOST[:PORT]]... [--redis URL] [--config FILE] [FLAGS]",
		short: "run this host's agent",
		long: `
Runs the agent of this host in the foreground: it gossips with the other agents
who is alive, and answers on a local HTTP endpoint, from which all other verbs,
the status page and the metrics are served. It writes its log to stderr.

Settings come from flags, then the environment, then peer.yaml and conf.d beside
it, then defaults. Every setting has a variable, named by its path in the file:
http.addr is PEER_HTTP_ADDR; an empty one counts as unset. ` + "`peer config show`" + `
prints the outcome, ` + "`peer config validate`" + ` checks it.

Without a gossip key it listens on loopback only. A seed or a Redis that does not
answer is no reason to end: the agent is up, says so in its status, and tries for
ever. SIGTERM and SIGINT end it gracefully within five seconds: it gives its locks
back and says goodbye, and the others see it as left; a second signal ends it at
once. Under systemd (Type=notify) it tells when it is ready and when it stops.`,
		examples: `
			# one agent, alone
			peer agent
			# a cluster of three hosts: the same key on each, and one another as seeds
			peer keygen -o /etc/peer/gossip.key
			peer agent --encrypt-file /etc/peer/gossip.key --join peer-1 --join peer-2 --join peer-3
			# with locks
			PEER_REDIS_URL=redis://:secret@10.0.0.9:6379 peer agent --config /etc/peer/peer.yaml`,
		exits: []int{exitConfig, exitSignal},
		group: groupRun,
		flags: flagsOf(),
		run:   runAgent,
	}
}

func runAgent(inv *invocation) error {
	// From the first moment on a signal means a graceful end, not half of one.
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)

	// A reader of stdout or stderr that has gone ends no agent. It is notified of
	// and not ignored, because commands of checks would inherit the latter.
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	defer signal.Stop(pipes)

	cfg, err := inv.settings()
	if err != nil {
		return err
	}
	for _, line := range inv.strayVariables() {
		inv.note("warning: %s", line)
	}
	cfg.Version = readBuild().Version
	if err := cfg.Validate(); err != nil {
		return withCode(exitConfig, err)
	}
	stderr := inv.queueStderr()
	defer stderr.close()
	cfg.Seams.Logger = inv.logger(cfg.Log)
	cfg.Seams.LogDropped = stderr.dropped.Load
	a, err := agent.Start(cfg)
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	notifySystemd(cfg.Seams.Logger, daemon.SdNotifyReady)
	defer time.AfterFunc(startLasts, func() {
		if err := returnPages(); err != nil {
			cfg.Seams.Logger.Debug("cannot return the memory of the start", "err", err)
		}
	}).Stop()
	for {
		select {
		case <-a.Done():
			notifySystemd(cfg.Seams.Logger, daemon.SdNotifyStopping)
			return inv.end(sigs, a)
		case s := <-sigs:
			if s == syscall.SIGHUP {
				cfg.Seams.Logger.Warn("settings are read at the start only: restart to change them", "signal", s.String())
				continue
			}
			cfg.Seams.Logger.Info("leaving, once more ends at once", "signal", s.String())
			notifySystemd(cfg.Seams.Logger, daemon.SdNotifyStopping)
			return inv.end(sigs, a)
		}
	}
}

// stopper is what ends gracefully: an agent, or several.
type stopper interface{ Stop(context.Context) error }

// end stops gracefully. A further signal, SIGHUP aside, ends it at once.
func (inv *invocation) end(sigs <-chan os.Signal, s stopper) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(inv), leaveWithin)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Stop(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				inv.note("stopped, but not all went well: %v", err)
			}
			return nil
		case <-time.After(leaveWithin + 250*time.Millisecond):
			inv.note("stopped; the goodbye did not get through in %v", leaveWithin)
			return nil
		case sig := <-sigs:
			if sig != syscall.SIGHUP {
				return withCode(exitSignal+int(sig.(syscall.Signal)), nil)
			}
		}
	}
}

// queueStderr has all that inv writes to stderr from now on go through a
// logWriter, which the caller closes.
func (inv *invocation) queueStderr() *logWriter {
	w := newLogWriter(inv.stderr)
	p := *inv.program
	p.stderr = w
	inv.program = &p
	return w
}

// logger writes to stderr as the settings say.
func (inv *invocation) logger(c agent.LogConfig) hclog.Logger {
	o := &hclog.LoggerOptions{
		Name:       "peer",
		Level:      hclog.LevelFromString(c.Level),
		Output:     inv.stderr,
		JSONFormat: c.Format == "json",
	}
	if inv.colour(inv.stderr) {
		o.Color = hclog.ForceColor // AutoColor wants a file, and colour has looked
	}
	if o.Level == hclog.NoLevel {
		o.Level = hclog.Info
	}
	return hclog.New(o)
}

// notifySystemd tells the service manager, if there is one.
func notifySystemd(l hclog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		l.Warn("cannot tell systemd", "state", state, "err", err)
	}
}
