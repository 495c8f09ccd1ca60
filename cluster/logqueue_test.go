package cluster

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// stalling is a log whose reader does not read until it is let go.
type stalling struct {
	free chan struct{}

	mu    sync.Mutex
	lines []string
}

func (s *stalling) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(p))
	return len(p), nil
}

func (s *stalling) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "")
}

func TestLogQueueDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stalling{free: make(chan struct{})}
		q := newLogQueue()
		log := q.logger(hclog.New(&hclog.LoggerOptions{Output: out, DisableTime: true}))
		for i := range maxLogLines + 500 {
			log.Info(fmt.Sprintf("line %d", i))
			if i == 0 {
				synctest.Wait() // it hangs in the writer's hands
			}
		}
		if got := q.dropped.Load(); got != 499 {
			t.Errorf("dropped %d lines, want 499", got)
		}
		close(out.free)
		synctest.Wait()
		text := out.text()
		if n := strings.Count(text, "[INFO]  line "); n != maxLogLines+1 {
			t.Errorf("%d lines were written, want %d", n, maxLogLines+1)
		}
		if i, j := strings.Index(text, "line 7\n"), strings.Index(text, "line 8\n"); i < 0 || j < i {
			t.Errorf("out of order: line 7 at %d, line 8 at %d", i, j)
		}
		if strings.Count(text, "log lines dropped") != 1 || !strings.Contains(text, "lines=499") {
			t.Errorf("what was dropped is not told of: %s", text[max(0, len(text)-200):])
		}
		q.close()
	})
}

// Close waits for the lines that were logged, and not for a reader that stalls.
func TestLogQueueCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stalling{free: make(chan struct{})}
		close(out.free)
		q := newLogQueue()
		log := q.logger(hclog.New(&hclog.LoggerOptions{Output: out, DisableTime: true}))
		for range 100 {
			log.Warn("last words")
		}
		start := time.Now()
		q.close()
		if n := strings.Count(out.text(), "last words"); n != 100 || time.Since(start) != 0 {
			t.Errorf("%d of 100 lines are there after %v", n, time.Since(start))
		}
		log.Warn("after the end")
		q.close()

		out = &stalling{free: make(chan struct{})}
		q = newLogQueue()
		q.logger(hclog.New(&hclog.LoggerOptions{Output: out})).Error("x")
		start = time.Now()
		q.close()
		if took := time.Since(start); took != logDrain {
			t.Errorf("close took %v with a reader that stalls, want %v", took, logDrain)
		}
		close(out.free)
	})
}

// What a line says is settled when it is logged, and a level that is off costs
// nothing.
func TestLogQueueKeepsWhatWasSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stalling{free: make(chan struct{})}
		q := newLogQueue()
		defer q.close()
		log := q.logger(hclog.New(&hclog.LoggerOptions{Name: "gossip", Output: out, DisableTime: true}))
		err := &fickle{text: "before"}
		args := []any{"err", err, "n", 1}
		log.Named("sub").With("member", "a").Info("said", args...)
		err.text, args[3] = "after", 2
		log.Debug("unseen", "err", errors.New("never made"))
		log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}).Print("standard\n")
		close(out.free)
		synctest.Wait()
		want := "[INFO]  gossip.sub: said: member=a err=before n=1\n[WARN]  gossip: standard\n"
		if got := out.text(); got != want {
			t.Errorf("got %q\nwant %q", got, want)
		}
		if n := testing.AllocsPerRun(100, func() { log.Debug("unseen") }); n > 0 {
			t.Errorf("a line that nobody wants costs %v allocations", n)
		}
	})
}

// fickle is an error whose text changes.
type fickle struct{ text string }

func (f *fickle) Error() string { return f.text }
