//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
	"github.com/peerhq/peer/lockclient"
)

var errTimeUp = errors.New("time is up")

// answerWithin is how long a Redis may take to answer when nobody wants to wait
// for the lock. A connection over TLS to another continent takes one second.
const answerWithin = 2 * time.Second

// acquire waits for the lock until a signal or --wait ends it. After a shorter wait
// than a first answer may take it still learns who has the lock: a lock that is held
// and a Redis that does not answer end with different codes.
func (inv *invocation) acquire(client *lockclient.Client, call lockCall, sigs <-chan os.Signal) (*lockclient.Lock, error) {
	ctx, cancel := context.WithCancelCause(inv)
	defer cancel(nil)
	type outcome struct {
		lock *lockclient.Lock
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		lock, err := inv.ask(ctx, client, call)
		done <- outcome{lock, err}
	}()
	select {
	case o := <-done:
		return o.lock, inv.notAcquired(call, o.err)
	case s := <-sigs:
		cancel(errors.New("interrupted"))
		select {
		case o := <-done:
			if o.lock != nil { // the grant and the signal crossed
				within(farewell, func() { _ = o.lock.Release(context.Background()) })
			}
		case <-sigs:
		case <-time.After(farewell):
		}
		return nil, withCode(exitSignal+int(s.(syscall.Signal)), nil)
	}
}

// ask asks for the lock as call says.
func (inv *invocation) ask(ctx context.Context, client *lockclient.Client, call lockCall) (*lockclient.Lock, error) {
	onWait := lockclient.OnWait(func(w lockclient.Waiting) {
		if w.Position <= 2 { // its turn may come before it is told that it is the first
			inv.ahead.Prepare(guard.Config{Title: call.name, Env: openEnv(inv.environ), Hold: w.Handle()})
		}
		inv.showWaiting(call.name, w)
	})
	if call.forever {
		return client.Acquire(ctx, call.name, onWait)
	}
	timed, cancel := context.WithTimeoutCause(ctx, cmp.Or(call.wait, answerWithin), errTimeUp)
	defer cancel()
	if call.wait == 0 {
		return client.TryAcquire(timed, call.name)
	}
	held, err := client.Acquire(timed, call.name, onWait)
	if rest := answerWithin - call.wait; rest > 0 && errors.Is(err, lockclient.ErrUnavailable) && timed.Err() != nil {
		timed, cancel := context.WithTimeout(ctx, rest)
		defer cancel()
		if info, ierr := client.Inspect(timed, call.name); ierr == nil && info.Holder != nil {
			err = &lockclient.HeldError{Name: call.name, Holder: *info.Holder, Cause: errTimeUp}
		}
	}
	return held, err
}

// notAcquired turns what Acquire said into what to tell and to end with. Only a
// lock that somebody is known to hold ends with --exit-on-timeout: a fleet whose
// Redis does not answer would otherwise skip its work in silence.
func (inv *invocation) notAcquired(call lockCall, err error) error {
	if err == nil {
		return nil
	}
	var held *lockclient.HeldError
	var u *lockclient.UnavailableError
	switch {
	case errors.As(err, &held) && held.Cause == nil:
		return withCode(call.onTimeout, fmt.Errorf("%s: %s is held by %s", inv.verb.name, call.name, held.Holder))
	case errors.As(err, &held):
		text := fmt.Sprintf("%s: %s was not obtained in %v; held by %s", inv.verb.name, call.name, call.wait, held.Holder)
		if held.Position > 0 {
			text += fmt.Sprintf(", %s in line", ordinal(held.Position))
		}
		return withCode(call.onTimeout, errors.New(text))
	case errors.As(err, &u):
		return withCode(codeOfRedis(u), fmt.Errorf("%s: %w", inv.verb.name, u))
	case errors.Is(err, lockclient.ErrNotReplicated):
		return withCode(exitUnavailable, fmt.Errorf("%s: %s was given back: %s", inv.verb.name, call.name, strings.TrimPrefix(err.Error(), "acquire lock: ")))
	case errors.Is(err, lockclient.ErrBadName), errors.Is(err, lockclient.ErrBadTTL):
		return inv.usage("%v", strings.TrimPrefix(err.Error(), "acquire lock: "))
	}
	return fmt.Errorf("%s: %w", inv.verb.name, err)
}

func codeOfRedis(u *lockclient.UnavailableError) int {
	switch u.Cause {
	case lockclient.CausePassword, lockclient.CausePermission:
		return exitRefused
	}
	return exitUnavailable
}

// showWaiting tells a person where they stand; a log file does not care.
func (inv *invocation) showWaiting(name string, w lockclient.Waiting) {
	if !isTerminal(inv.stderr) {
		return
	}
	inv.note("%s is held by %s; %s in line", cell(name), cell(w.Holder.String()), ordinal(w.Position))
}

// showRedis tells a person that the Redis is gone, or back, once it has been
// there. A waiter keeps its place meanwhile; a holder keeps the lock as long as
// the lease lasts.
func (inv *invocation) showRedis() func(lockclient.Event) {
	if !isTerminal(inv.stderr) {
		return nil
	}
	up, seen := false, false
	return func(e lockclient.Event) {
		switch {
		case e.Type == lockclient.RedisDown && up:
			up = false
			inv.note("no answer from the Redis, trying on: %s", e.Reason)
		case e.Type == lockclient.RedisUp:
			if seen && !up {
				inv.note("the Redis answers again")
			}
			up, seen = true, true
		}
	}
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
