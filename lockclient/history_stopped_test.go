package lockclient_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// contenderTTL is how long the locks of contenders live.
const contenderTTL = time.Second

// A line is what a contender tells of one operation. Times are of the wall clock,
// in ns: it is another process.
type line struct {
	Key        string
	Begin      bool
	Fence      uint64
	Call, Done int64
	Failed     string
}

// contender is a process that takes locks and gives them back until its input
// ends.
func contender(url string) {
	id, err := strconv.Atoi(os.Getenv("LOCK_TEST_ID"))
	if err != nil {
		panic(err)
	}
	c, err := lockclient.Start(lockclient.Config{URL: url, TTL: contenderTTL, Node: fmt.Sprint("p", id)})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := json.NewEncoder(os.Stdout)
	work(ctx, contenderTTL, c, id, []string{"k", "l"}, func(o operation, call, done time.Time) {
		_ = out.Encode(line{Key: o.key, Begin: o.begin, Fence: o.fence, Call: call.UnixNano(), Done: done.UnixNano()})
	}, func(err error) { _ = out.Encode(line{Failed: err.Error()}) })
	c.Close()
}

// startContender starts one whose operations go into h until stop is called,
// which returns when it has ended.
func startContender(t *testing.T, h *history, url string, id int) (cmd *exec.Cmd, stop func()) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCK_TEST_CONTENDER="+url, fmt.Sprint("LOCK_TEST_ID=", id))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var l line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil || l.Failed != "" {
				t.Errorf("contender %d: %s %v", id, lines.Text(), err)
				continue
			}
			h.add(operation{key: l.Key, client: id, begin: l.Begin, fence: l.Fence}, time.Unix(0, l.Call), time.Unix(0, l.Done))
		}
	}()
	return cmd, sync.OnceFunc(func() {
		in.Close()
		<-done
		_ = cmd.Wait()
	})
}

// Processes that contend are stopped, one after the other, for up to twice the
// time to live, whatever they are at.
func TestHistoryOfStoppedProcesses(t *testing.T) {
	t.Parallel()
	r := testcluster.StartRedis(t)
	h := &history{start: time.Now().Round(0)} // without its monotonic part
	var all []*exec.Cmd
	var stops []func()
	for i := range 5 {
		cmd, stop := startContender(t, h, "redis://"+r.Addr(), i+1)
		all, stops = append(all, cmd), append(stops, stop)
	}
	length := 12 * time.Second
	if testing.Short() {
		length = 5 * time.Second
	}
	var faults []string
	for end := time.Now().Add(length); time.Now().Before(end); {
		victim := rand.N(len(all))
		d := rand.N(2 * contenderTTL)
		_ = all[victim].Process.Signal(syscall.SIGSTOP)
		time.Sleep(d)
		_ = all[victim].Process.Signal(syscall.SIGCONT)
		faults = append(faults, fmt.Sprintf("%d stopped for %v", victim+1, d))
		time.Sleep(rand.N(contenderTTL / 2))
	}
	for _, stop := range stops {
		stop()
	}
	h.check(t, exclusion, faults, 5)
}
