//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// idle watches 64 waiters while nothing happens, of all products at once, each
// on a server of its own.
func idle(ctx context.Context, l *lab) error {
	for _, clients := range []int{64, 1} {
		err := crowd(len(l.products), func(i int) error {
			if err := l.idle(ctx, l.products[i], clients); err != nil {
				return fmt.Errorf("%s: %w", l.products[i].name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// idle watches 64 waiters in as many clients as it is told.
func (l *lab) idle(ctx context.Context, p product, clients int) (err error) {
	srv, err := startServer(ctx)
	if err != nil {
		return err
	}
	defer srv.stop()
	lab := &lab{settings: l.settings, srv: srv}
	holder, end, err := lab.team(ctx, p, 1)
	if err != nil {
		return err
	}
	defer end()
	h, err := holder[0].lock(ctx, "one")
	if err != nil {
		return err
	}
	// A holder of the others has to see to its lock itself.
	defer keep(ctx, srv, "one")()
	team, endTeam, err := lab.team(ctx, p, clients)
	if err != nil {
		return err
	}
	defer endTeam()
	// What the holder opens for its renewals is no waiter's.
	if err := wait(ctx, time.Second); err != nil {
		return err
	}
	first, err := srv.connections(ctx)
	if err != nil {
		return err
	}
	waiting, leave := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		leave()
		wg.Wait()
		_ = h.release()
	}()
	for i := range 64 {
		wg.Go(func() {
			if got, err := team[i%clients].lock(waiting, "one"); err == nil {
				_ = got.release()
			}
		})
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if err := wait(ctx, 2*time.Second); err != nil {
		return err
	}
	before, err1 := srv.sent(ctx, p.sends)
	begun := time.Now()
	err2 := wait(ctx, l.settings.idle)
	passed := time.Since(begun).Seconds()
	after, err3 := srv.sent(ctx, p.sends)
	last, err4 := srv.connections(ctx)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	row := "idle"
	if clients == 1 {
		row = "idle-one"
	}
	l.report(row, p, (after.commands-before.commands)/passed)
	l.report(row+"-conns", p, (last-first)/float64(clients))
	return nil
}

// keep has a key live on, for as long as its lock is watched, without a command
// that counts.
func keep(ctx context.Context, srv *server, key string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for wait(ctx, time.Second) == nil {
			_ = srv.admin.PExpire(ctx, key, 15*time.Second).Err() // ours is called otherwise, and needs no help
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
