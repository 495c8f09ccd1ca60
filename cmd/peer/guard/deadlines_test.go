//go:build unix

package guard_test

import (
	"testing"
	"time"

	"github.com/peerhq/peer/cmd/peer/guard"
)

func TestDeadlinesOf(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name             string
		left, grace      time.Duration
		lost             bool
		term, kill, next time.Duration
	}{
		{"whole lease", 15000 * ms, 5000 * ms, false, 9950 * ms, 14950 * ms, 15000 * ms},
		{"short grace", 2000 * ms, 100 * ms, false, 1890 * ms, 1990 * ms, 2000 * ms},
		{"handed over: half of it is over first", 5000 * ms, 5000 * ms, false, 2450 * ms, 4950 * ms, 5000 * ms},
		{"known loss", 15000 * ms, 5000 * ms, true, 0, 450 * ms, 0},
		{"known loss, shorter grace", 15000 * ms, 100 * ms, true, 0, 100 * ms, 0},
		{"known loss near the end", 300 * ms, 5000 * ms, true, 0, 250 * ms, 0},
		{"lost because it is over", 0, 5000 * ms, true, 0, 0, 0},
		{"lost long ago", -3000 * ms, 5000 * ms, true, 0, 0, 0},
	} {
		want := guard.Deadlines{Term: c.term, Kill: c.kill, Next: c.next}
		got := guard.DeadlinesOf(c.left, c.grace, c.lost)
		if got != want {
			t.Errorf("%s: DeadlinesOf(%v, %v, %v): got %+v, want %+v", c.name, c.left, c.grace, c.lost, got, want)
		}
		if !c.lost && got.Kill >= got.Next {
			t.Errorf("%s: it is killed when the next one may have begun", c.name)
		}
	}
}
