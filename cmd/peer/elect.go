//go:build unix

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
	"github.com/peerhq/peer/lockclient"
	"github.com/urfave/cli/v2"
)

func electVerb() *verb {
	return &verb{
		name:  "elect",
		form:  "[--restart] [--ttl DURATION] [--grace DURATION] NAME -- COMMAND ARG...",
		short: "run COMMAND on exactly one peer",
		long: `
Stands for election as NAME, and runs COMMAND once it is elected: start it on every
host, and COMMAND runs on one of them. When that one ends, is killed, or loses its
host or its way to the Redis, the next one takes over, in the order in which they
stood; by then COMMAND is dead there, with all that it has started.

An election is a lock that its winner keeps: ` + "`peer locks NAME`" + ` says who was elected
and who stands by, and ` + "`peer lock NAME`" + ` would stand in the same line. COMMAND is run
and guarded as by ` + "`peer lock`" + `, with the same environment: PEER_LOCK_FENCE is the
number of the term of office, and rises with each.

Without --restart this ends when COMMAND does, with its exit code, and with 76 when
the office is lost: a supervisor that restarts it, such as systemd, has it stand
again. With --restart it stands again by itself when COMMAND fails, when the office
is lost and while the Redis is out of reach, after a pause that leaves the others
time to be elected; it ends when COMMAND ends with 0, cannot be run, or when
somebody sends a signal.`,
		examples: `
			# one scheduler among all hosts, forever
			peer elect --restart scheduler -- /usr/local/bin/scheduler
			# in a systemd unit with Restart=always
			peer elect scheduler -- /usr/local/bin/scheduler
			# who is it, who stands by?
			peer locks -o wide scheduler`,
		exits:   []int{exitUnavailable, exitLost, exitRefused, exitConfig, exitNotRunnable, exitNotFound, exitSignal},
		group:   groupLock,
		command: true,
		flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "restart", Usage: "stand again when COMMAND fails or the office is lost"},
			&cli.DurationFlag{Name: "ttl", Usage: "the next one takes over from a dead host after `DURATION` (default 15s)", Value: lockclient.DefaultTTL},
			&cli.DurationFlag{Name: "grace", Usage: "from TERM to KILL (default 5s, at most a third of --ttl)"},
			&cli.StringFlag{Name: "addr", Usage: "the agent at `ADDR` to ask for a Redis when none is set (default 127.0.0.1:7980) [$PEER_HTTP_ADDR]"},
		}, flagsOf("redis.url", "redis.wait_replicas")...),
		run: runElect,
	}
}

// runElect stands for election, once or again and again.
func runElect(inv *invocation) error {
	sigs, asked := electSignals()
	call, err := inv.lockCall()
	if err != nil {
		return err
	}
	client, err := inv.lockClient(call)
	if err != nil {
		return err
	}
	bye := goodbye
	defer func() { within(bye, func() { _ = client.Close() }) }()
	restart := inv.cli.Bool("restart")
	inv.ahead = new(guard.Ahead)
	defer inv.ahead.Close()
	for failures := 0; ; failures++ {
		began := time.Now()
		held, err := inv.acquire(client, call, sigs)
		elected := err == nil
		if elected {
			began = time.Now()
			inv.note("elected %s, fence %d: %s runs here", cell(call.name), held.Fence(), cell(call.commandName()))
			err = inv.runHolding(held, call, sigs)
		}
		if !restart || err == nil || asked.Load() != 0 || !worthAnother(err, elected) {
			if !elected {
				bye = farewell
			}
			return err
		}
		if time.Since(began) > steady {
			failures = 0
		}
		pause := electPause(failures)
		inv.note("%s; stands again in %v", whyAgain(err), pause.Round(100*time.Millisecond))
		if s := rest(sigs, pause); s != 0 {
			bye = farewell
			return withCode(exitSignal+int(s), nil)
		}
	}
}

// electSignals returns the channel of signals for one campaign after another,
// and the one by which somebody has asked to end, or 0: a signal that COMMAND ends
// by does not ask for another COMMAND. It is not undone: the process ends next.
func electSignals() (sigs chan os.Signal, asked *atomic.Int32) {
	all := make(chan os.Signal, 16)
	catch(all, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	catch(make(chan os.Signal, 1), syscall.SIGPIPE)
	sigs, asked = make(chan os.Signal, 16), new(atomic.Int32)
	go func() { // to the end of the process
		for s := range all {
			if ends(s) {
				asked.Store(int32(s.(syscall.Signal)))
			}
			sigs <- s
		}
	}()
	return sigs, asked
}

func ends(s os.Signal) bool {
	return slices.Contains([]os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}, s)
}

// worthAnother says whether to stand again after err. What a person has to mend
// is not.
func worthAnother(err error, elected bool) bool {
	code, own := codeOf(err)
	if !elected {
		return code == exitUnavailable
	}
	return own || code != exitNotRunnable && code != exitNotFound
}

func whyAgain(err error) string {
	var ec *exitCode
	if errors.As(err, &ec) && ec.err == nil {
		return fmt.Sprintf("COMMAND ended with %d", ec.code)
	}
	return err.Error()
}

// steady is how long a COMMAND has to run to be called well.
const steady = time.Minute

// electPause is how long to stand back after so many failures in a row: long
// enough for the next one in line to have been elected, and never the same.
func electPause(failures int) time.Duration {
	d := min(time.Second<<min(failures, 5), 30*time.Second)
	return d/2 + rand.N(d/2)
}

// rest waits for d and returns the signal that ends it, or 0. Those that were
// for a COMMAND which is no more are no matter.
func rest(sigs chan os.Signal, d time.Duration) syscall.Signal {
	signal.Reset(syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGWINCH) // until the next one runs
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case s := <-sigs:
			if ends(s) {
				return s.(syscall.Signal)
			}
		case <-t.C:
			return 0
		}
	}
}
