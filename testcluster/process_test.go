package testcluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

// TestThreeProcesses is the whole house as its user meets it: real binaries, a
// real redis-server, the command line.
func TestThreeProcesses(t *testing.T) {
	t.Parallel()
	testcluster.StartRedis(t) // skips, or fails, without one
	testcluster.Processes(t, func(w *World) {
		w.StartRedis()
		nodes := []*Node{w.Start(Spec{Name: "p0", Redis: true})}
		for _, name := range []string{"p1", "p2"} {
			nodes = append(nodes, w.Start(Spec{Name: name, Redis: true, Join: []string{nodes[0].Addr()}}))
		}
		w.Logf("three processes whole after %v", w.Whole(nodes, 5*time.Second))

		out := runs(w, nodes[0], 0, "members", "-o", "json")
		var doc api.Members
		if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Members) != 3 || doc.SeenBy != "p0" {
			w.Errorf("peer members -o json: %v, %s", err, out)
		}
		if out := runs(w, nodes[0], 0, "members"); !strings.Contains(out, "p2") || strings.Contains(out, "\x1b") {
			w.Errorf("peer members:\n%s", out)
		}
		turns := map[string]int{}
		for range 9 {
			turns[runs(w, nodes[1], 0, "next", "-o", "name")]++
		}
		if len(turns) != 3 || turns["p0\n"] != 3 || turns["p1\n"] != 3 || turns["p2\n"] != 3 {
			w.Errorf("nine times peer next: %v, want each of three peers three times", turns)
		}

		start := time.Now()
		nodes[2].Kill()
		took := w.Told(start, nodes[:2], "failed", "p2", crashBar)
		w.Logf("kill -9 was seen after %v", took)
		for range 6 {
			if got := runs(w, nodes[0], 0, "next", "-o", "name"); got == "p2\n" {
				w.Error("peer next handed out the dead")
			}
		}

		// The lock: COMMAND's own exit code, and contenders in the order of
		// their coming.
		runs(w, nodes[0], 3, "lock", "demo", "--", "sh", "-c", "exit 3")
		fences := contend(w, nodes[:2])
		w.Logf("fences of two contenders: %v", fences)

		start = time.Now()
		nodes[1].Stop() // SIGTERM; the exit code is looked at
		w.Logf("SIGTERM to gone: %v", time.Since(start))
		w.Told(start, nodes[:1], "left", "p1", time.Second)
		if out := runs(w, nodes[0], 0, "members"); !strings.Contains(out, "left") {
			w.Errorf("peer members:\n%s", out)
		}
		if got := runs(w, nodes[0], 0, "next", "-o", "name"); got != "p0\n" {
			w.Errorf("alone, peer next says %q", got)
		}
	})
}

// runs runs peer and fails the test when it does not end with code.
func runs(w *World, n *Node, code int, args ...string) string {
	w.Helper()
	out, errOut, got := n.Run(args...)
	if got != code {
		w.Errorf("peer %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errOut)
	}
	return out
}

// contend has three processes want one lock. The first is killed; the others
// get it in the order in which they asked, within the time to live. It returns
// the fences in that order.
func contend(w *World, nodes []*Node) []uint64 {
	w.Helper()
	const ttl = 2 * time.Second
	type contender struct {
		cmd *exec.Cmd
		out bytes.Buffer // when it began, its fence, and when it ended
	}
	begin := func(n *Node, script string) *contender {
		c := new(contender)
		c.cmd = n.Command("lock", "--ttl", ttl.String(), "contended", "--", "sh", "-c", "date +%s%N; echo $PEER_LOCK_FENCE; "+script+"; date +%s%N")
		c.cmd.Stdout = &c.out
		if err := c.cmd.Start(); err != nil {
			w.Fatal(err)
		}
		return c
	}
	waiters := func(n int) {
		w.Helper()
		w.Eventually(5*time.Second, fmt.Sprintf("held, %d waiting", n), func() error {
			doc, err := nodes[0].Client().Locks(w.Context())
			if err != nil {
				return err
			}
			for _, l := range doc.Locks {
				if l.Name == "contended" && l.Holder != nil && len(l.Waiters) == n {
					return nil
				}
			}
			return fmt.Errorf("%+v", doc.Locks)
		})
	}
	first := begin(nodes[0], "sleep 60")
	waiters(0)
	second := begin(nodes[1], "sleep 0.2")
	waiters(1)
	third := begin(nodes[0], "true")
	waiters(2)

	killed := time.Now()
	first.cmd.Process.Kill()
	first.cmd.Wait()
	for _, c := range []*contender{second, third} {
		if err := c.cmd.Wait(); err != nil {
			w.Errorf("a contender: %v", err)
		}
	}
	var fences []uint64
	var begun, ended []time.Time
	for _, c := range []*contender{first, second, third} {
		var fence uint64
		var from, to int64
		if n, _ := fmt.Sscan(c.out.String(), &from, &fence, &to); n < 2 {
			w.Fatalf("a contender wrote %q", &c.out)
		}
		fences, begun, ended = append(fences, fence), append(begun, time.Unix(0, from)), append(ended, time.Unix(0, to))
	}
	if fences[0] >= fences[1] || fences[1] >= fences[2] {
		w.Errorf("fences %v, want them rising", fences)
	}
	took := begun[1].Sub(killed)
	w.Logf("the next one had the lock %v after its holder was killed, ttl %v", took, ttl)
	if took > w.Limit(ttl) {
		w.Errorf("hand-over took %v, ttl %v", took, ttl)
	}
	if begun[2].Before(ended[1]) {
		w.Errorf("the third had it %v before the second was done", ended[1].Sub(begun[2]))
	}
	return fences
}

// TestProcessStopped: the kernel of a stopped process goes on, its timers do
// not.
func TestProcessStopped(t *testing.T) {
	t.Parallel()
	testcluster.Processes(t, func(w *World) {
		nodes := w.StartMany(4)
		w.Whole(nodes, 5*time.Second)
		w.Sleep(time.Second)
		start := time.Now()
		nodes[1].Pause()
		w.Sleep(3 * time.Second)
		nodes[1].Resume()
		w.Logf("stopped for 3 s, whole %v after it went on", w.Whole(nodes, returnBar))
		w.Sleep(2 * time.Second)
		for _, s := range w.Events(start, func(s testcluster.Seen) bool { return s.Event.Type == "failed" }) {
			w.Errorf("a verdict: %v", s)
		}
		w.Unharmed(start, nodes[1])
	})
}
