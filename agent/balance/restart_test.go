package balance_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/balance"
	"github.com/peerhq/peer/testcluster"
)

// While the agent is away the last view stays, and says so.
func TestAgentAway(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a", "b")
		var told []string
		w := a.watch(func(c *balance.Config) {
			c.OnChange = func(v balance.View) { told = append(told, fmt.Sprint(len(v.Peers), v.Err != nil)) }
		})
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.down()
		time.Sleep(time.Minute)
		v := w.View()
		var u *api.UnreachableError
		if names(w) != "a b" || !errors.As(v.Err, &u) || v.Age() < time.Minute {
			t.Errorf("after a minute without the agent: %q, %v old: %v", names(w), v.Age(), v.Err)
		}
		// A tenth of a second at first, then doubling to five, minus up to half.
		if v.Tries < 12 || v.Tries > 36 {
			t.Errorf("%d tries in a minute", v.Tries)
		}
		if _, err := w.Next(); err != nil {
			t.Error(err)
		}
		// The same start comes back, as after a broken connection.
		a.up()
		time.Sleep(5*time.Second + time.Millisecond)
		if v := w.View(); v.Err != nil || v.Tries != 0 || v.Age() > 5*time.Second {
			t.Errorf("it is back: %v after %d tries", v.Err, v.Tries)
		}
		synctest.Wait()
		expect(t, "what was told", strings.Join(told, ", "), "2 false, 2 true, 2 false")
	})
}

// An agent that hangs is away, though its connections are open.
func TestAgentHangs(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a")
		w := a.watch(nil)
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.change(func() {
			a.spoil = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
		})
		time.Sleep(45 * time.Second)
		if v := w.View(); names(w) != "a" || v.Err == nil || v.Age() < 40*time.Second {
			t.Errorf("%q, %v old, %v", names(w), v.Age(), v.Err)
		}
		a.change(func() { a.spoil = nil; a.index++; a.peers = []string{"b"} })
		time.Sleep(20 * time.Second)
		if v := w.View(); names(w) != "b" || v.Err != nil {
			t.Errorf("it goes on: %q, %v", names(w), v.Err)
		}
	})
}

// An agent that has just started is believed when it knows everybody, or when it
// has had its time.
func TestAgentRestarts(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a", "b", "c")
		least := 3
		w := a.watch(func(c *balance.Config) { c.OnChange = func(v balance.View) { least = min(least, len(v.Peers)) } })
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		// It knows nobody, then some, then all and one more.
		a.restart("2", 1)
		time.Sleep(500 * time.Millisecond)
		if v := w.View(); names(w) != "a b c" || v.Err == nil || !strings.Contains(v.Err.Error(), "restarted") || v.Instance != "1" {
			t.Errorf("a new start that knows nobody: %q, %v", names(w), v.Err)
		}
		a.set("b", "c")
		time.Sleep(500 * time.Millisecond)
		expect(t, "it knows two of three", names(w), "a b c")
		a.set("a", "b", "c", "d")
		synctest.Wait()
		if v := w.View(); names(w) != "a b c d" || v.Err != nil || v.Instance != "2" {
			t.Errorf("it knows all: %q, %v", names(w), v.Err)
		}
		synctest.Wait()
		if least != 3 {
			t.Errorf("a view of %d was handed out", least)
		}
		// What it has known and knows to have gone is gone.
		a.set("a", "d")
		synctest.Wait()
		expect(t, "two have gone", names(w), "a d")

		// One goes while the agent is away: believed after its time, not before.
		a.restart("3", 1, "a")
		time.Sleep(2 * time.Second)
		expect(t, "two seconds after a start", names(w), "a d")
		time.Sleep(3 * time.Second)
		expect(t, "five seconds after a start", names(w), "a")

		// As long as it has not found its cluster it is not believed at all.
		a.change(func() { a.joined = "fail" })
		a.restart("4", 1)
		time.Sleep(time.Minute)
		if v := w.View(); names(w) != "a" || v.Err == nil || !strings.Contains(v.Err.Error(), "joined: fail") {
			t.Errorf("it has not joined: %q, %v", names(w), v.Err)
		}
		a.change(func() { a.joined = "pass" })
		time.Sleep(2 * time.Second)
		if v := w.View(); names(w) != "" || v.Err != nil {
			t.Errorf("it has joined, and nobody is there: %q, %v", names(w), v.Err)
		}
	})
}

// An index means nothing to a later start, also when the restart was not seen:
// the connection was closed between two reads.
func TestIndexOfAnEarlierStart(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a", "b")
		w := a.watch(func(c *balance.Config) { c.Settle = -1 })
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// The answer to the read under way is the last on its connection, and the
		// next one finds another start with the same index.
		var once sync.Once
		a.change(func() {
			a.spoil = func(w http.ResponseWriter, r *http.Request) bool {
				once.Do(func() { a.change(func() { a.instance, a.peers = "2", []string{"c"} }) })
				return false
			}
			a.index++
		})
		a.mu.Lock()
		a.server.SetKeepAlivesEnabled(false)
		a.mu.Unlock()
		time.Sleep(time.Second)
		expect(t, "a second after", names(w), "c")
	})
}

// Without connections that are kept it still follows, and does not run hot.
func TestWithoutKeepAlive(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent(t, "a")
		a.server.SetKeepAlivesEnabled(false)
		w := a.watch(nil)
		time.Sleep(time.Minute)
		a.set("b")
		synctest.Wait()
		expect(t, "after a change", names(w), "b")
		if n := a.asked("status") + a.asked("read") + a.asked("wait"); n > 20 || w.View().Err != nil {
			t.Errorf("%d requests in a minute, %v", n, w.View().Err)
		}
	})
}
