//go:build unix

package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// Ahead is a guard process that waits for its command, so that the command begins
// as soon as there is a lease: starting the guard takes longer than all the rest.
// The zero value has none yet, and a nil one never has. It ends with this
// process, or with Close.
type Ahead struct {
	mu      sync.Mutex
	waiting *standby
}

// Prepare starts the guard process for a command with cfg's Title and with this
// process's own input, unless it waits already, and tells it cfg's Hold: if this
// process dies before Start, the guard gives that back. The rest of cfg may still
// change. That it cannot be started is for Start to find.
func (a *Ahead) Prepare(cfg Config) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting, _ = prepare(cfg)
	}
	if a.waiting != nil {
		send(a.waiting.orders, order{Kind: orderWait, Run: &runOrder{Holder: os.Getpid(), Hold: cfg.Hold}})
	}
}

// Close ends the guard process that waits, if there is one.
func (a *Ahead) Close() {
	a.mu.Lock()
	s := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	if s == nil {
		return
	}
	send(s.orders, order{Kind: orderDismiss})
	_ = syscall.Kill(s.pid, syscall.SIGCONT) // a stopped guard would not hear of it
	s.orders.Close()
	s.reports.Close()
	_ = wait(s.pid)
}

// Start is as the function Start, with the process that waits, if there is one
// and it is alive.
func (a *Ahead) Start(cfg Config) (*Guard, error) {
	if a == nil || cfg.Stdin != nil {
		return Start(cfg)
	}
	a.mu.Lock()
	s := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	if s != nil {
		if g, err := s.start(cfg); !errors.Is(err, errNoGuard) {
			return g, err
		}
	}
	return Start(cfg)
}

// standby is a guard process that has got no order yet.
type standby struct {
	pid             int
	orders, reports *os.File
}

// errNoGuard: the guard ended before it has started anything.
var errNoGuard = errors.New("start the guard: it ended at once")

func prepare(cfg Config) (*standby, error) {
	if err := becomeSubreaper(); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	ordersOut, orders, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open the guard's pipe: %w", err)
	}
	reports, reportsIn, err := os.Pipe()
	if err != nil {
		ordersOut.Close()
		orders.Close()
		return nil, fmt.Errorf("open the guard's pipe: %w", err)
	}
	pid, err := launch(cfg, ordersOut, reportsIn)
	// The guard has copies. If it dies they were the last ones: then what is sent
	// fails, and its reports end.
	ordersOut.Close()
	reportsIn.Close()
	if err != nil {
		orders.Close()
		reports.Close()
		return nil, err
	}
	return &standby{pid, orders, reports}, nil
}

// start runs cfg's command under the guard that waits.
func (s *standby) start(cfg Config) (*Guard, error) {
	g := &Guard{
		pid:     s.pid,
		done:    make(chan struct{}),
		ended:   make(chan struct{}),
		suspend: make(chan syscall.Signal, 1),
		orders:  s.orders,
	}
	g.send(order{Kind: orderRun, Run: &runOrder{
		Path:     []byte(cfg.Path),
		Args:     bytesOf(cfg.Args),
		Env:      bytesOf(cfg.Env),
		Grace:    cfg.Grace,
		Deadline: onClock(cfg.Deadline),
		Group:    syscall.Getpgrp(),
		Holder:   os.Getpid(),
		Hold:     cfg.Hold,
	}})
	in := bufio.NewReader(s.reports)
	first, err := read[report](in)
	if err == nil && first.Kind == reportFailed {
		err = &StartError{Path: cfg.Path, Code: first.Code, Err: errors.New(first.Text)}
	}
	if err != nil {
		s.orders.Close()
		s.reports.Close()
		if werr := wait(s.pid); errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", errNoGuard, errOr(werr, err))
		}
		return nil, err
	}
	g.pgid = first.PID
	go g.follow(in, s.reports)
	return g, nil
}
