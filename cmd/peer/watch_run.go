//go:build unix

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
	"github.com/peerhq/peer/lockclient"
)

// watcher is a running `peer watch`.
type watcher struct {
	*invocation
	call   watchCall
	locks  *lockclient.Client // nil without a lock
	states *states
	sigs   chan os.Signal
	asked  *atomic.Int32 // the signal that asked to end, or 0
}

func runWatch(inv *invocation) error {
	w := &watcher{invocation: inv}
	w.sigs, w.asked = electSignals()
	var err error
	if w.call, err = inv.watchCall(); err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	if w.call.name != "" {
		if w.locks, err = inv.lockClient(w.call.lockCall); err != nil {
			return err
		}
		defer within(goodbye, func() { _ = w.locks.Close() })
	}
	w.states = watchStates(inv, c, w.call)
	defer w.states.stop()
	return w.run()
}

// run runs COMMAND for one state after the other.
func (w *watcher) run() error {
	known := "" // the state that COMMAND has been run for with success
	failures := 0
	var retry <-chan time.Time
	for first := true; ; {
		select {
		case <-w.states.changed:
		case <-retry:
		case err := <-w.states.failed:
			return err
		case s := <-w.sigs:
			if ends(s) {
				return withCode(exitSignal+int(s.(syscall.Signal)), nil)
			}
			continue
		}
		if w.states.newest().key == known {
			continue // it came and went, or COMMAND was given it already
		}
		if !first && w.call.splay > 0 {
			if s := rest(w.sigs, rand.N(w.call.splay)); s != 0 {
				return withCode(exitSignal+int(s), nil)
			}
		}
		now, ran, err := w.attempt(known)
		switch s := w.asked.Load(); {
		case w.call.once:
			return err
		case s != 0:
			return withCode(exitSignal+int(s), nil)
		case first && err != nil && (!ran || !worthAnother(err, true)):
			return err
		case err == nil:
			known, failures, retry = now, 0, nil
		default:
			pause := watchPause(failures)
			w.note("%s; once more in %v", strings.TrimPrefix(whyAgain(err), "watch: "), pause.Round(100*time.Millisecond))
			// Who has failed for one state knows none.
			known, retry = "", time.After(pause)
			failures++
		}
		first = false
	}
}

// watchPause is how long to wait after so many failures in a row, never the same.
func watchPause(failures int) time.Duration {
	d := min(time.Second<<min(failures, 6), time.Minute)
	return d/2 + rand.N(d/2)
}

// attempt runs COMMAND with the newest state, unless that is the known one, under
// the lock if there is one. It returns the state's key, and whether COMMAND has
// run.
func (w *watcher) attempt(known string) (key string, ran bool, err error) {
	reapDaemons()
	var held *lockclient.Lock
	if w.locks != nil {
		if held, err = w.acquire(w.locks, w.call.lockCall, w.sigs); err != nil {
			return "", false, err
		}
	}
	now := w.states.newest()
	if now.key == known {
		if held != nil {
			_ = w.release(held)
		}
		return now.key, false, nil
	}
	call := w.call.lockCall
	call.env = []string{"PEER_WATCH_SERVICE=" + w.call.service, fmt.Sprintf("PEER_WATCH_LIVE=%d", now.live)}
	stdin, done, err := feed(now.body)
	if err != nil {
		return "", false, err
	}
	defer done()
	call.stdin = stdin
	if held != nil {
		err = w.runHolding(held, call, w.sigs)
	} else {
		err = w.runFree(w.call.service, call, w.sigs)
	}
	return now.key, true, err
}

// reapDaemons forgets what earlier COMMANDs have left running and has ended since:
// it became a child of this process. The caller has no COMMAND running.
func reapDaemons() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// feed returns a file from which body can be read once, and what to call when
// COMMAND has ended, whether it has read it or not.
func feed(body []byte) (*os.File, func(), error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("open COMMAND's input: %w", err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = w.Write(body) // who does not read it does not want it
		w.Close()
	}()
	return r, func() {
		r.Close()
		w.Close() // ends a Write that nobody reads
		<-written
	}, nil
}

// never is a deadline for what has none.
const never = 50 * 365 * 24 * time.Hour

// runFree runs COMMAND, without a lock.
func (inv *invocation) runFree(title string, call lockCall, sigs chan os.Signal) error {
	g, err := startCommand(sigs, nil, guard.Config{
		Title:    title,
		Path:     call.path,
		Args:     call.argv,
		Env:      append(openEnv(inv.environ), call.env...),
		Stdin:    call.stdin,
		Grace:    call.grace,
		Deadline: time.Now().Add(never),
	})
	if err != nil {
		return inv.notStarted(call, err)
	}
	for over := false; !over; {
		select {
		case <-g.Done():
			over = true
		case s := <-sigs:
			g.Signal(s.(syscall.Signal))
		case <-g.Suspended():
			stopSelf(g, func() {})
		}
	}
	switch res, err := g.Result(); {
	case err != nil:
		return withCode(res.Code, fmt.Errorf("%s: %w", inv.verb.name, err))
	case res.Code != 0:
		return withCode(res.Code, nil)
	}
	return nil
}
