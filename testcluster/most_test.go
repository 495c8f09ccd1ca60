package testcluster_test

import (
	"fmt"
	"testing"
	"time"
)

// Most hosts lose their power in one instant. Those that are left have lost most
// of the ones they watch, and those that watch them; they must find all the same
// that the others are gone.
func TestMostLosePower(t *testing.T) {
	for _, tt := range []struct{ n, left int }{{10, 1}, {10, 3}, {20, 4}, {64, 4}} {
		t.Run(fmt.Sprintf("members=%d,left=%d", tt.n, tt.left), func(t *testing.T) {
			in(t, func(w *World) {
				nodes := w.StartMany(tt.n)
				w.Whole(nodes, 10*time.Second)
				w.Sleep(20 * time.Second)
				rest := nodes[:tt.left]
				start := time.Now()
				for _, n := range nodes[tt.left:] {
					n.PowerOff()
				}
				counts := func() (out []string) {
					for _, n := range rest {
						c := w.Status(n).Cluster
						out = append(out, fmt.Sprintf("%s: %d alive %d suspect %d failed;", n.Name, c.Alive, c.Suspect, c.Failed))
					}
					return out
				}
				// Who hears nobody any more cannot tell who is left: the survivors may lose
				// each other for a moment, but no dead one is handed out.
				w.Eventually(silenceBar+500*ms, "none of the dead is handed out", func() error {
					for _, n := range rest {
						if c := w.Status(n).Cluster; c.Alive > tt.left {
							return fmt.Errorf("%v", counts())
						}
					}
					return nil
				})
				w.Logf("none of the dead was handed out after %v", time.Since(start))
				w.Eventually(time.Minute, "those that are left have buried the others", func() error {
					for _, n := range rest {
						if c := w.Status(n).Cluster; c.Alive != tt.left || c.Failed != tt.n-tt.left {
							return fmt.Errorf("%v", counts())
						}
					}
					return nil
				})
				w.Logf("all were failed after %v", time.Since(start))
				for _, n := range rest {
					w.Rotation(n, rest)
				}
			}, virtual)
		})
	}
}
