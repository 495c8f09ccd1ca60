package lockclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("LOCK_TEST_HOLDER"); url != "" {
		holder(url)
		return
	}
	if url := os.Getenv("LOCK_TEST_CONTENDER"); url != "" {
		contender(url)
		return
	}
	os.Exit(m.Run())
}

// holder is a process that holds a lock, and for each line that it reads tells
// how it stands with it and tries to write.
func holder(url string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	c, err := lockclient.Start(lockclient.Config{URL: url, TTL: time.Second})
	fail(err)
	l, err := c.Acquire(ctx, "demo")
	fail(err)
	fmt.Println("held", l.Fence())
	resource := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(url, "redis://")})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		written, err := redis.NewScript(lockclient.FenceCheckLua).Run(ctx, resource, []string{"{r}", "{r}:fence"}, l.Fence(), "stale").Bool()
		fmt.Println("valid", l.Valid(), "lost", errors.Is(context.Cause(l.Context()), lockclient.ErrLost),
			"written", written, err, "released", l.Release(ctx))
	}
}

// A holder is stopped for three times its time to live, and goes on.
func TestHolderStopped(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCK_TEST_HOLDER="+s.url())
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
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "held ") {
		t.Fatalf("got %q", lines.Text())
	}
	time.Sleep(500 * time.Millisecond)
	cmd.Process.Signal(syscall.SIGSTOP)
	stopped := time.Now()
	c := s.client(t)
	// Its beat would come half a minute later only.
	l := hold(t, c, "demo", lockclient.WithTTL(time.Hour))
	if d := time.Since(stopped); d > 20*time.Second {
		t.Errorf("the next got it after %v", d)
	}
	check := redis.NewScript(lockclient.FenceCheckLua)
	admin := s.admin()
	if ok, err := check.Run(t.Context(), admin, []string{"{r}", "{r}:fence"}, l.Fence(), "fresh").Bool(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	time.Sleep(3*time.Second - time.Since(stopped))
	fmt.Fprintln(in, "now") // the first that it sees when it goes on
	cmd.Process.Signal(syscall.SIGCONT)
	if !lines.Scan() {
		t.Fatal("it says nothing")
	}
	want := `valid false lost true written false <nil> released lock "demo" lost: `
	if got := lines.Text(); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if v := admin.Get(t.Context(), "{r}").Val(); v != "fresh" {
		t.Errorf("%q was written", v)
	}
	time.Sleep(300 * time.Millisecond)
	if info := must[lockclient.Info](t)(c.Inspect(t.Context(), "demo")); !l.Valid() || info.Fence != l.Fence() || info.Holder == nil {
		t.Errorf("the new hold was disturbed: %v, %+v", l.Err(), info)
	}
}

// As many replicas as asked for must have confirmed a grant.
func TestWaitReplicas(t *testing.T) {
	t.Parallel()
	primary := startRedis(t)
	one := func(cfg *lockclient.Config) { cfg.WaitReplicas, cfg.TTL = 1, 8*time.Second }
	c := primary.client(t, one)
	start := time.Now()
	_, err := c.Acquire(t.Context(), "demo")
	if !errors.Is(err, lockclient.ErrNotReplicated) {
		t.Errorf("without a replica: got %v, want ErrNotReplicated", err)
	}
	if d := time.Since(start); d > 7*time.Second { // the call would end after eight
		t.Errorf("took %v", d)
	}
	l, err := primary.client(t).Acquire(t.Context(), "demo")
	if err != nil {
		t.Errorf("it was not given back: %v", err)
	}
	host, port, _ := strings.Cut(primary.addr, ":")
	startRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(fmt.Sprint(primary.do("INFO", "replication")), "state=online"); {
		if time.Now().After(deadline) {
			t.Fatal("no replica after 20 s")
		}
		time.Sleep(20 * time.Millisecond) // a process of its own: there is nothing to wait on
	}
	next := later(t, c, "demo")
	l.Release(t.Context())
	won := within(t, 10*time.Second, "the next", next)
	if won.err != nil || !won.lock.Valid() {
		t.Errorf("with a replica: got %v, %v", won.lock, won.err)
	}
}
