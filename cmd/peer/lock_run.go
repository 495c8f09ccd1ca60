//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
	"github.com/peerhq/peer/lockclient"
	"golang.org/x/sys/unix"
)

const (
	// lastTry bounds giving a lock back, and goodbye closing connections after that:
	// together they keep who waits for our exit code less than a second.
	lastTry = 600 * time.Millisecond
	goodbye = 300 * time.Millisecond
	// farewell is goodbye for who leaves a queue: a person has pressed ^C, and
	// nobody waits for a waiter that is gone.
	farewell = 500 * time.Millisecond
)

// runLock waits, runs and gives back. Signals are caught from here on: before,
// nothing has begun and their default is right.
func runLock(inv *invocation) error {
	sigs := make(chan os.Signal, 16)
	catch(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(sigs)
	catch(make(chan os.Signal, 1), syscall.SIGPIPE) // a reader of our messages that is gone ends nothing

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
	inv.ahead = new(guard.Ahead)
	defer inv.ahead.Close()
	held, err := inv.acquire(client, call, sigs)
	if err != nil {
		bye = farewell
		return err
	}
	return inv.runHolding(held, call, sigs)
}

// lockClient starts the client that call's lock is held with.
func (inv *invocation) lockClient(call lockCall) (*lockclient.Client, error) {
	cfg, err := inv.lockSettings()
	if err != nil {
		return nil, err
	}
	cfg.TTL, cfg.Command = call.ttl, call.commandName()
	cfg.OnEvent = inv.showRedis()
	client, err := lockclient.Start(cfg)
	if err != nil {
		return nil, withCode(exitConfig, fmt.Errorf("%s: %w", inv.verb.name, err))
	}
	return client, nil
}

// catch has signals delivered to c, but for those that this process was started
// to ignore, as by nohup: COMMAND is to ignore them too.
func catch(c chan<- os.Signal, sigs ...os.Signal) {
	for _, s := range sigs {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// within runs f, and leaves it alone when it takes longer than d.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// runHolding runs COMMAND and gives the lock back, unless it is lost before.
func (inv *invocation) runHolding(held *lockclient.Lock, call lockCall, sigs chan os.Signal) error {
	inv.wholeLease(held, call)
	until := held.Deadline()
	g, err := startCommand(sigs, inv.ahead, guard.Config{
		Title:    call.name,
		Path:     call.path,
		Args:     call.argv,
		Env:      append(commandEnv(inv.environ, held), call.env...),
		Stdin:    call.stdin,
		Grace:    call.grace,
		Deadline: until,
		Hold:     held.Handle(),
	})
	if err != nil {
		inv.release(held)
		return inv.notStarted(call, err)
	}
	defer g.Dismiss() // after the lock is given back: until then the guard would do it
	lost := inv.follow(held, until, call, g, sigs)
	res, gerr := g.Result()
	if !lost && !res.Stopped {
		err := inv.release(held)
		var le *lockclient.LostError
		if lost = errors.As(err, &le); !lost && err != nil {
			inv.note("%v; it ends by itself in %v at the latest", err, call.ttl)
		}
	}
	switch {
	case lost || res.Stopped:
		why := held.Err()
		if why == nil || errors.Is(why, lockclient.ErrReleased) {
			why = fmt.Errorf("lock %q could not be renewed in time", call.name)
		}
		if !lost {
			inv.release(held) // stopped in good time: it may be ours still
		}
		return withCode(exitLost, fmt.Errorf("%s: %w; COMMAND was stopped", inv.verb.name, why))
	case gerr != nil:
		return withCode(res.Code, fmt.Errorf("%s: %w", inv.verb.name, gerr))
	case res.Code != 0:
		return withCode(res.Code, nil)
	}
	return nil
}

// wholeLease renews a lock that was handed over: it is granted for a part of --ttl
// at first, half of which may be over before its first renewal has come round. It
// is no matter if that goes wrong: COMMAND has what is left.
func (inv *invocation) wholeLease(held *lockclient.Lock, call lockCall) {
	left := time.Until(held.Deadline())
	if left > call.ttl*2/3 {
		return
	}
	ctx, cancel := context.WithTimeout(inv, left/4)
	defer cancel()
	_ = held.Renew(ctx)
}

// notStarted says why COMMAND does not run.
func (inv *invocation) notStarted(call lockCall, err error) error {
	var se *guard.StartError
	if errors.As(err, &se) {
		return withCode(se.Code, fmt.Errorf("%s: COMMAND %s cannot be run: %w", inv.verb.name, call.argv[0], se.Err))
	}
	return fmt.Errorf("%s: %w", inv.verb.name, err)
}

// startCommand starts COMMAND, and catches what a terminal sends to who has one
// running: from before it starts, for until then the terminal is ours, and in a
// pipeline it stays so.
func startCommand(sigs chan os.Signal, ahead *guard.Ahead, cfg guard.Config) (*guard.Guard, error) {
	catch(sigs, syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGWINCH)
	g, err := ahead.Start(cfg)
	if err == nil {
		signal.Ignore(syscall.SIGTTOU) // what we say must not stop us while COMMAND has the terminal
	}
	return g, err
}

// release gives the lock back, unless its lease is over, and tries for no longer
// than the lease lasts.
func (inv *invocation) release(held *lockclient.Lock) error {
	if err := held.Err(); err != nil {
		return err
	}
	patience := min(lastTry, time.Until(held.Deadline()))
	err := fmt.Errorf("release lock %q: no answer within %v", held.Name(), lastTry)
	if patience <= 0 {
		return err
	}
	answer := make(chan error, 1)
	go func() { answer <- held.Release(context.WithoutCancel(inv)) }()
	select {
	case err = <-answer:
	case <-time.After(patience):
	}
	return err
}

// follow goes along with COMMAND until nothing of it is left, and says whether
// the lock was lost meanwhile. The guard knows the deadline so far: the lock may
// have been renewed while it started.
func (inv *invocation) follow(held *lockclient.Lock, deadline time.Time, call lockCall, g *guard.Guard, sigs <-chan os.Signal) (lost bool) {
	look := time.NewTicker(min(max(call.ttl/30, 5*time.Millisecond), 100*time.Millisecond))
	defer look.Stop()
	lose := held.Lost()
	var kill time.Time // when it is lost
	for {
		select {
		case <-g.Done():
			return lost
		case <-look.C:
			if d := held.Deadline(); !lost && !d.Equal(deadline) {
				deadline = d
				g.Extend(d)
			}
		case <-lose:
			lost, lose = true, nil
			kill = time.Now().Add(guard.DeadlinesOf(time.Until(deadline), call.grace, true).Kill)
			g.Stop(kill)
		case s := <-sigs:
			g.Signal(s.(syscall.Signal))
		case s := <-g.Suspended():
			inv.suspend(held, call, g, s)
		}
		if lost && !time.Now().Before(kill) {
			g.Kill() // the guard has done it, unless it is stopped
		}
	}
}

// suspend stops this process as the terminal has stopped COMMAND, if there is
// a shell that would continue it.
func (inv *invocation) suspend(held *lockclient.Lock, call lockCall, g *guard.Guard, _ syscall.Signal) {
	stopSelf(g, func() {
		left := guard.DeadlinesOf(time.Until(held.Deadline()), call.grace, false).Term
		inv.note("suspended; the lock %s is lost unless it goes on within %s", cell(call.name), short(left))
	})
}

// stopSelf stops this process after calling first, or has COMMAND go on when
// nobody is there who would continue us.
func stopSelf(g *guard.Guard, first func()) {
	mine, err := unix.Getsid(0)
	parents, perr := unix.Getsid(os.Getppid())
	if err != nil || perr != nil || mine != parents {
		g.Signal(syscall.SIGCONT)
		return
	}
	first()
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

// commandEnv is COMMAND's environment: ours, without secrets, with the lock.
func commandEnv(environ []string, held *lockclient.Lock) []string {
	return append(openEnv(environ), "PEER_LOCK_NAME="+held.Name(), fmt.Sprintf("PEER_LOCK_FENCE=%d", held.Fence()))
}

// openEnv is the environment without secrets, and without a lock.
func openEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return isSecret(k) || k == "PEER_LOCK_NAME" || k == "PEER_LOCK_FENCE"
	})
}

// isSecret says whether a variable of ours may hold a password, a token or a
// key. The path of a file that does is no secret.
func isSecret(k string) bool {
	if !strings.HasPrefix(k, "PEER_") || strings.HasSuffix(k, "_FILE") {
		return false
	}
	if k == "PEER_REDIS_URL" {
		return true
	}
	for _, word := range []string{"PASSWORD", "TOKEN", "SECRET", "KEY"} {
		if strings.Contains(k, word) {
			return true
		}
	}
	return false
}
