//go:build unix

// Package guard runs a command that must not outlive a lease.
//
// The process that holds the lease does not start the command itself: it starts
// a guard, a second copy of its own binary, and the guard starts the command in
// a process group of its own. Three processes stand in a row, and whichever of
// them dies, the ones below it are stopped:
//
//	peer lock demo -- make       holds the lease, tells the guard each new deadline
//	 └─ lock-guard demo          knows the deadline, reaps, signals, kills
//	     └─ make                 own process group, killed by the kernel with its guard
//
// The guard stops the command when its deadline comes near, when it is told to,
// and when the holder is gone, be it by kill -9. A holder that is stopped
// (SIGSTOP) or starved tells no new deadline, and that is enough: TERM comes a
// grace before the deadline, but not before half of the lease is over, KILL some
// 50 ms before it.
//
// On Linux "the command" means all its descendants, also those that went into a
// session of their own: the guard is their subreaper and does not end before
// the last of them. Elsewhere it means the command's process group.
//
// A guard that was given the hold itself also gives it back when the holder is
// dead and nothing of the command is left, so that the next one need not wait for
// the lease to end. It is never enough that the command has ended, for the holder
// may go on with its hold, nor that the holder is silent, for it may be stopped.
// Credentials come through the guard's pipe and nowhere else; it connects only
// when the holder is dead.
//
// What it cannot do: stop a process of another user (COMMAND as `sudo …` when
// the holder is not root), and stop the grandchildren when the holder and the
// guard are both killed -9 at one instant; the command itself then still dies.
package guard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// Config says what to run and until when.
type Config struct {
	Title    string        // of the guard in the process list: the lock's name
	Path     string        // of the executable, as exec.LookPath found it
	Args     []string      // with the name it was called by first
	Env      []string      // of the command, and of the guard
	Stdin    *os.File      // of the command; nil means this process's own
	Grace    time.Duration // between TERM and KILL
	Deadline time.Time     // no descendant of the command runs after it

	// Hold is what the guard gives back when this process dies. With one the
	// caller calls Dismiss in the end, when the hold is over. Default: none.
	Hold lockclient.Handle
}

// StartError says that the command could not be started. Code is what to end
// with: 127 when it was not found, 126 when it cannot be executed, 76 when the
// deadline was too near to start it at all.
type StartError struct {
	Path string
	Code int
	Err  error
}

// Error names the command and the cause.
func (e *StartError) Error() string { return fmt.Sprintf("run %s: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Result is how a command ended.
type Result struct {
	Code    int            // its exit code, or 128 + Signal
	Signal  syscall.Signal // that ended it, or 0
	Stopped bool           // the guard stopped it: told to, or because the deadline came near
}

// Guard is one running command. Its goroutine reads what the guard process
// reports and ends with it. All methods may be called from any goroutine.
type Guard struct {
	pid     int           // of the guard process
	pgid    int           // of the command
	done    chan struct{} // the command is gone
	ended   chan struct{} // the guard process is reaped
	suspend chan syscall.Signal

	mu     sync.Mutex // guards what follows
	orders io.WriteCloser
	result Result
	err    error
}

// Start runs cfg's command under a guard and returns when it runs. Its
// output and error, and its input unless cfg says otherwise, are this process's
// own, as are all other descriptors that it inherited. A command that cannot be started is a *StartError.
//
// On Linux the calling process becomes the subreaper of its descendants.
func Start(cfg Config) (*Guard, error) {
	s, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	return s.start(cfg)
}

// Extend tells the guard a new deadline. Calls with the same one cost nothing
// much, but the guard hears of each.
func (g *Guard) Extend(deadline time.Time) {
	g.send(order{Kind: orderDeadline, At: onClock(deadline)})
}

// Signal passes s to the command's process group.
func (g *Guard) Signal(s syscall.Signal) { g.send(order{Kind: orderSignal, Signal: int(s)}) }

// Stop ends the command: TERM now, KILL at kill or a grace from now, whichever
// is earlier. It does not wait.
func (g *Guard) Stop(kill time.Time) { g.send(order{Kind: orderStop, At: onClock(kill)}) }

// Kill ends the command at once, whatever the state its guard is in.
func (g *Guard) Kill() {
	select {
	case <-g.done:
		return
	default:
	}
	g.Stop(time.Now())
	_ = syscall.Kill(-g.pgid, syscall.SIGKILL)
	_ = syscall.Kill(g.pid, syscall.SIGCONT) // a stopped guard could not do its part
}

// Group returns the command's process group, which is also its process id.
func (g *Guard) Group() int { return g.pgid }

// Done is closed when the command has ended and nothing of it is left.
func (g *Guard) Done() <-chan struct{} { return g.done }

// Dismiss ends the guard of a hold that was given back or lost, after Done, and
// returns when it has ended. A guard without a hold ends by itself.
func (g *Guard) Dismiss() {
	<-g.done
	g.send(order{Kind: orderDismiss})
	select {
	case <-g.ended:
	default:
		_ = syscall.Kill(g.pid, syscall.SIGCONT) // a stopped guard would not hear of it
		<-g.ended
	}
}

// Suspended delivers the signal by which the terminal stopped the command (^Z).
// The terminal is then this process group's again. The receiver stops itself,
// as a shell expects of its job, and passes SIGCONT on when it is continued.
func (g *Guard) Suspended() <-chan syscall.Signal { return g.suspend }

// Result returns how the command ended, after Done. An error means that the
// guard itself died; what it guarded has then been killed.
func (g *Guard) Result() (Result, error) {
	<-g.done
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.result, g.err
}

// send never blocks for long: the pipe holds thousands of orders and the guard
// does nothing but read them. An order to a guard that is gone is lost, and
// follow deals with that.
func (g *Guard) send(o order) {
	g.mu.Lock()
	defer g.mu.Unlock()
	send(g.orders, o)
}

func send(orders io.Writer, o order) {
	b, _ := json.Marshal(o)
	_, _ = orders.Write(append(b, '\n'))
}

// follow reads reports until the guard has ended.
func (g *Guard) follow(in *bufio.Reader, reports io.Closer) {
	defer close(g.ended)
	defer reports.Close()
	var res Result
	ended, gone := false, false
	for {
		r, err := read[report](in)
		if err != nil {
			break
		}
		switch r.Kind {
		case reportEnded:
			ended = true
			res.Code, res.Signal = r.Code, syscall.Signal(r.Signal)
		case reportStopping:
			res.Stopped = true
		case reportGone:
			gone = true
			g.finish(res, nil)
		case reportSuspended:
			select {
			case g.suspend <- syscall.Signal(r.Signal):
			default:
			}
		}
	}
	werr := wait(g.pid)
	defer g.orders.Close()
	if gone {
		return
	}
	var err error
	if !ended || werr != nil {
		// Nobody else is left to keep the promise.
		_ = syscall.Kill(-g.pgid, syscall.SIGKILL)
		killDescendants()
		if !ended {
			res.Code, res.Signal = 128+int(syscall.SIGKILL), syscall.SIGKILL
		}
		err = fmt.Errorf("the guard of the command died: %w", errOr(werr, io.ErrUnexpectedEOF))
	}
	g.finish(res, err)
}

// finish tells that nothing of the command is left.
func (g *Guard) finish(res Result, err error) {
	g.mu.Lock()
	g.result, g.err = res, err
	g.mu.Unlock()
	close(g.done)
}

// wait reaps the guard. Its exit code is no news that the reports do not carry.
func wait(pid int) error {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		case ws.Signaled():
			return fmt.Errorf("killed by %v", ws.Signal())
		case ws.ExitStatus() != 0:
			return fmt.Errorf("exit status %d", ws.ExitStatus())
		}
		return nil
	}
}

func bytesOf(in []string) [][]byte {
	out := make([][]byte, len(in))
	for i, s := range in {
		out[i] = []byte(s)
	}
	return out
}

func stringsOf(in [][]byte) []string {
	out := make([]string, len(in))
	for i, b := range in {
		out[i] = string(b)
	}
	return out
}

func errOr(err, fallback error) error {
	if err == nil {
		return fallback
	}
	return err
}
