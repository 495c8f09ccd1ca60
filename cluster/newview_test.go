package cluster_test

import (
	"sync"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
)

// Who follows the events or the Index has the newest View in the end: nothing
// changes without either. The peer that comes back at a new address is the one
// that finds out for itself that its own earlier start is gone.
func TestNothingChangesSilently(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		told := map[string]*cluster.View{}
		follow := func(key string) func(*cluster.Config) {
			return func(c *cluster.Config) {
				note := c.OnEvent
				c.OnEvent = func(e cluster.Event, v *cluster.View) {
					note(e, v)
					mu.Lock()
					defer mu.Unlock()
					told[key] = v
				}
			}
		}
		everybody := map[string]*peer{}
		for i, name := range []string{"p00", "p01", "p02"} {
			everybody[name] = w.start(name, i, seeds(0), follow(name))
		}
		settle()
		everybody["p02"].host.Crash()
		everybody["p02"].Close()
		everybody["p02"] = w.start("p02", 30, seeds(0), follow("p02 again"))

		seen := map[string]*cluster.View{}
		for range 10_000 { // ten seconds
			for name, p := range everybody {
				v := p.View()
				if old := seen[name]; old != nil && old != v && old.Index == v.Index {
					t.Fatalf("%s: two views of index %d: %s, and then %s", name, v.Index, draw(old), draw(v))
				}
				seen[name] = v
			}
			time.Sleep(time.Millisecond)
		}
		everybody["p02 again"] = everybody["p02"]
		delete(everybody, "p02")
		mu.Lock()
		defer mu.Unlock()
		for key, p := range everybody {
			if a, b := draw(told[key]), draw(p.View()); a != b {
				t.Errorf("%s was last told of %s, and sees %s", key, a, b)
			}
			if s := stateOf(p, "p02"); s != "alive" {
				t.Errorf("%s sees p02 %s", key, s)
			}
		}
	})
}
