//go:build unix

package guard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Main is the guard process. The program calls it first thing with os.Args; when
// this process was started as a guard it returns, after the command has ended,
// the code to exit with and true.
func Main(args []string) (code int, guard bool) {
	if len(args) == 0 || filepath.Base(args[0]) != Name {
		return 0, false
	}
	// The kernel kills the command when the thread that started it ends.
	runtime.LockOSThread()
	nameProcess(Name)
	orders, reports, err := pipes()
	if err == nil {
		err = becomeSubreaper()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Name, err)
		return 64, true
	}
	s := &supervisor{reports: json.NewEncoder(reports), tty: openTerminal(), heir: newHeir()}
	if err := s.run(orders); err != nil {
		return 1, true
	}
	return 0, true
}

// supervisor is the guard's state. One goroutine, that of run, owns it; one
// reads orders, one reaps, and one releases the hold of a holder that is gone.
// They end with the process.
type supervisor struct {
	reports *json.Encoder
	tty     *terminal // nil without a controlling terminal
	heir    *heir

	cmd      runOrder
	pgid     int   // the command's process id and group
	deadline int64 // on the machine's clock
	term     int64 // when it gets TERM, before that
	ended    bool  // the command was reaped
	reaped   bool  // no child is left

	stopping bool  // TERM has been sent
	killAt   int64 // when stopping, or when clearing up behind the command
	clearing bool  // the command ended and left some of its group behind
	widely   bool  // stop every descendant, not only the group
}

// child is one status that wait4 reported; pid 0 means that no child is left.
type child struct {
	pid    int
	status syscall.WaitStatus
}

// tick bounds how late the guard is at anything that no order or child tells it.
const tick = 5 * time.Millisecond

func (s *supervisor) run(in *os.File) error {
	catchAll()
	lines := bufio.NewReader(in)
	if err := s.await(lines); err != nil {
		return err
	}
	s.extend(s.cmd.Deadline)
	if err := s.start(); err != nil {
		s.tell(report{Kind: reportFailed, Code: startCode(err), Text: err.Error()})
		return nil
	}
	s.tell(report{Kind: reportStarted, PID: s.pgid})
	orders := make(chan order)
	go func() {
		defer close(orders)
		for {
			o, err := read[order](lines)
			if err != nil {
				return
			}
			orders <- o
		}
	}()
	children := make(chan child)
	go reap(children)
	for !s.over() {
		timer := time.NewTimer(s.pause())
		select {
		case o, ok := <-orders:
			if !ok {
				orders = nil
				s.stop(s.deadline) // the holder is gone
				s.inherit()
				break
			}
			s.obey(o)
		case c := <-children:
			s.saw(c)
		case <-timer.C:
			// If this process did not run for a while, a new deadline may be here, unread.
			select {
			case o, ok := <-orders:
				if ok {
					s.obey(o)
				}
			case <-time.After(time.Millisecond):
			}
		}
		timer.Stop()
		if !s.over() {
			s.keepTime()
		}
	}
	s.settle(orders)
	return nil
}

// await reads orders until there is a command to run. A holder that dies before
// may have been granted the lock, or be in its queue.
func (s *supervisor) await(lines *bufio.Reader) error {
	for {
		o, err := read[order](lines)
		switch {
		case err != nil:
			s.inherit()
			s.bequeath()
			return errNoOrder
		case o.Kind == orderWait && o.Run != nil:
			s.cmd = *o.Run
		case o.Kind == orderRun && o.Run != nil:
			s.cmd = *o.Run
			return nil
		default:
			return errNoOrder
		}
	}
}

var errNoOrder = errors.New("no run order")

// catchAll keeps signals from ending the guard: it ends when its command has.
// Handlers, unlike ignoring, are not inherited by the command. What this
// process was started to ignore (nohup) stays ignored, for the command too.
func catchAll() {
	sink := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(sink, sig)
		}
	}
}

func (s *supervisor) start() error {
	if clock() >= s.deadline {
		return errTooLate
	}
	attr := commandAttr()
	if s.tty != nil && s.tty.interactive() && s.tty.group() == s.cmd.Group {
		// It has the terminal before its first word. If it had to be stopped and
		// continued for that, a ^Z between the two would be forgotten.
		attr.Foreground, attr.Ctty = true, int(s.tty.f.Fd())
	}
	pid, _, err := syscall.StartProcess(string(s.cmd.Path), stringsOf(s.cmd.Args), &syscall.ProcAttr{
		Env:   stringsOf(s.cmd.Env),
		Files: []uintptr{0, 1, 2},
		Sys:   attr,
	})
	if err != nil {
		if attr.Foreground {
			s.tty.give(s.cmd.Group)
		}
		return err
	}
	s.pgid = pid
	return nil
}

var errTooLate = errors.New("the deadline passed before it was started")

func startCode(err error) int {
	switch {
	case errors.Is(err, errTooLate):
		return 76
	case errors.Is(err, fs.ErrNotExist):
		return 127
	}
	return 126
}

// reap delivers every status of every child, and then that there is none.
func reap(children chan<- child) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			children <- child{}
			return
		default:
			children <- child{pid, ws}
		}
	}
}

func (s *supervisor) obey(o order) {
	switch o.Kind {
	case orderDeadline:
		s.extend(o.At)
	case orderStop:
		s.stop(o.At)
	case orderSignal:
		s.pass(syscall.Signal(o.Signal))
	}
}

// extend notes a new deadline.
func (s *supervisor) extend(deadline int64) {
	now := clock()
	d := DeadlinesOf(time.Duration(deadline-now), s.cmd.Grace, false)
	s.term, s.deadline = now+int64(d.Term), now+int64(d.Kill)
}

// pass hands a signal of the holder's on to the command's group.
func (s *supervisor) pass(sig syscall.Signal) {
	if s.tty != nil {
		switch {
		case sig == syscall.SIGCONT && s.tty.group() == s.cmd.Group && s.tty.wanted:
			s.tty.give(s.pgid)
		case sig == syscall.SIGWINCH && s.tty.group() == s.pgid:
			return // the terminal has told it
		}
	}
	s.signal(sig)
}

// signal reaches the group as long as any of it is left; a group that is gone
// takes no signal, and its number is not given out anew while it exists.
func (s *supervisor) signal(sig syscall.Signal) { _ = syscall.Kill(-s.pgid, sig) }

func (s *supervisor) saw(c child) {
	switch {
	case c.pid == 0:
		s.reaped = true
	case c.pid != s.pgid:
	case c.status.Stopped():
		s.suspended(c.status.StopSignal())
	default:
		s.finished(c.status)
	}
}

// suspended decides what a stop of the command means: that it wants the
// terminal, which it gets when it is ours to give; or that the person there
// wants their shell back.
func (s *supervisor) suspended(sig syscall.Signal) {
	if s.tty == nil || s.stopping {
		return
	}
	switch sig {
	case syscall.SIGTTIN, syscall.SIGTTOU:
		s.tty.wanted = true
		if s.tty.group() == s.cmd.Group {
			s.tty.give(s.pgid)
		}
		if s.tty.group() == s.pgid {
			s.signal(syscall.SIGCONT)
			return
		}
	case syscall.SIGTSTP:
		s.takeBack()
	default:
		return // SIGSTOP: somebody means the command, not its terminal
	}
	s.tell(report{Kind: reportSuspended, Signal: int(sig)})
}

func (s *supervisor) takeBack() {
	if s.tty != nil && s.tty.group() == s.pgid {
		s.tty.wanted = true
		s.tty.give(s.cmd.Group)
	}
}

// finished tells how the command ended, and stops what it left in its group: no
// part of it may go on when the lease is given back.
func (s *supervisor) finished(ws syscall.WaitStatus) {
	s.ended = true
	s.takeBack()
	r := report{Kind: reportEnded, Code: ws.ExitStatus()}
	if ws.Signaled() {
		r.Code, r.Signal = 128+int(ws.Signal()), int(ws.Signal())
	}
	s.tell(r)
	if s.stopping || s.groupGone() {
		return
	}
	s.clearing = true
	s.killAt = clock() + int64(s.cmd.Grace)
	s.signal(syscall.SIGTERM)
	s.signal(syscall.SIGCONT)
}

func (s *supervisor) groupGone() bool {
	return errors.Is(syscall.Kill(-s.pgid, 0), syscall.ESRCH)
}

// stop sends TERM once, and sets when KILL follows: at kill, at the deadline or
// a grace from now, whichever is first.
func (s *supervisor) stop(kill int64) {
	at := min(kill, s.deadline, clock()+int64(s.cmd.Grace))
	if s.stopping {
		s.killAt = min(s.killAt, at)
		return
	}
	s.stopping, s.widely, s.killAt = true, true, at
	s.tell(report{Kind: reportStopping})
	s.signal(syscall.SIGTERM)
	s.signal(syscall.SIGCONT) // a stopped process would not hear TERM
	signalDescendants(syscall.SIGTERM, s.pgid)
}

// keepTime does what the clock says.
func (s *supervisor) keepTime() {
	now := clock()
	if !s.stopping && now >= s.term {
		s.stop(s.deadline)
	}
	if (s.stopping || s.clearing) && now >= min(s.killAt, s.deadline) {
		s.signal(syscall.SIGKILL)
		if s.widely {
			signalDescendants(syscall.SIGKILL, s.pgid)
		}
	}
}

// pause is how long nothing needs to be done. Only the emptying of a process
// group must be asked for; everything else is told.
func (s *supervisor) pause() time.Duration {
	ends := s.ended && !(s.widely && subreaper)
	if ends || ((s.stopping || s.clearing) && clock() >= s.killAt) {
		return tick
	}
	next := s.term
	if s.stopping {
		next = s.killAt
	}
	// The machine's clock runs on while it sleeps, timers do not.
	return min(max(time.Duration(next-clock()), 0), time.Second)
}

// over says whether nothing is left to guard.
func (s *supervisor) over() bool {
	switch {
	case !s.ended:
		return false
	case s.reaped && subreaper:
		return true
	case s.widely && subreaper:
		return false
	}
	return s.groupGone()
}

func (s *supervisor) tell(r report) { _ = s.reports.Encode(r) }
