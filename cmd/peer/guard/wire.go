//go:build unix

package guard

import (
	"bufio"
	"encoding/json"
	"fmt"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// The holder and its guard speak over two pipes, one JSON value a line. Times
// on them are nanoseconds of the machine's clock since boot, which both read
// alike and nobody can set.

// order goes from the holder to its guard.
type order struct {
	Kind   string    `json:"kind"`
	At     int64     `json:"at,omitempty"`
	Signal int       `json:"signal,omitempty"`
	Run    *runOrder `json:"run,omitempty"`
}

const (
	orderWait     = "wait"     // before run: its holder waits, Run has no more than Holder and Hold
	orderRun      = "run"      // once
	orderDeadline = "deadline" // At is the new one
	orderSignal   = "signal"   // to the command's group
	orderStop     = "stop"     // TERM now, KILL at At
	orderDismiss  = "dismiss"  // the holder has done with the hold
)

type runOrder struct {
	Path     []byte        `json:"path"` // bytes, for a name need not be UTF-8
	Args     [][]byte      `json:"args"`
	Env      [][]byte      `json:"env"`
	Grace    time.Duration `json:"grace"`
	Deadline int64         `json:"deadline"`
	Group    int           `json:"group"` // the holder's process group, which the terminal goes back to

	Holder int               `json:"holder"` // the holder's process id
	Hold   lockclient.Handle `json:"hold"`   // to release when the holder is dead
}

// report goes from the guard to the holder.
type report struct {
	Kind   string `json:"kind"`
	PID    int    `json:"pid,omitempty"`
	Code   int    `json:"code,omitempty"`
	Signal int    `json:"signal,omitempty"`
	Text   string `json:"text,omitempty"`
}

const (
	reportStarted   = "started"   // PID runs
	reportFailed    = "failed"    // it could not be started: Code, Text
	reportSuspended = "suspended" // the terminal stopped it by Signal
	reportStopping  = "stopping"  // the guard has begun to stop it
	reportEnded     = "ended"     // Code, and Signal when one ended it
	reportGone      = "gone"      // nothing of it is left; the guard waits to be dismissed
)

// read returns the next order or report. Its line may hold secrets, which are
// not kept twice.
func read[T order | report](in *bufio.Reader) (T, error) {
	var m T
	line, err := in.ReadBytes('\n')
	defer clear(line)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("read %T: %w", m, err)
	}
	return m, nil
}

// onClock turns a moment of this process into one of the machine's clock. The
// clock is read first, so that what passes in between makes the result earlier.
func onClock(t time.Time) int64 {
	now := clock()
	return now + int64(time.Until(t))
}
