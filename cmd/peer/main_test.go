package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/peerhq/peer/testcluster"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this binary `peer` too: scripts and tests find it on the PATH
// and run it as a process of its own, guard included.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector every process would end a second late
	heedSignals()
	testscript.Main(m, map[string]func(){
		"peer":       main,
		"lock-guard": main,
	})
}

// heedSignals undoes what a shell does to what it runs in the background, which
// every process started here would inherit: to be deaf for ^C. The processes
// themselves (peer, lock-guard) are left as they are started.
func heedSignals() {
	if !strings.HasSuffix(os.Args[0], ".test") {
		return
	}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			// No file of this machine takes part.
			empty := filepath.Join(e.WorkDir, "no-settings.yaml")
			e.Setenv("PEER_CONFIG", empty)
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("NOBODY", freeAddr())
			return os.WriteFile(empty, nil, 0o600)
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   cmdExits,
			"dev":     cmdDev,
			"answer":  cmdAnswer,
			"signal":  cmdSignal,
			"until":   cmdUntil,
			"mode":    cmdMode,
			"usejson": cmdJSON,
		},
	})
}

// exits CODE PROGRAM ARG...: runs it, and it ends with CODE.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		got, err = ee.ExitCode(), nil
	}
	ts.Check(err)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// dev [N]: a cluster of N peers in this process; $PEER_HTTP_ADDR is its first.
func cmdDev(ts *testscript.TestScript, _ bool, args []string) {
	n := 3
	if len(args) > 0 {
		var err error
		n, err = strconv.Atoi(args[0])
		ts.Check(err)
	}
	d, err := startDev(n, "127.0.0.1:0", hclog.NewNullLogger())
	ts.Check(err)
	ts.Defer(func() { _ = d.Stop(context.Background()) })
	ts.Setenv("PEER_HTTP_ADDR", d.agents[0].HTTPAddr())
	ts.Setenv("GOSSIP2", d.agents[n-1].GossipAddr())
	if !d.settle(20 * time.Second) {
		ts.Fatalf("the cluster does not get whole")
	}
}

// answer PATH STATUS FILE...: an agent that answers PATH with FILE, the content
// type by its status. Further calls add to it. $PEER_HTTP_ADDR is its address.
func cmdAnswer(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: answer PATH STATUS FILE")
	}
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	key := ts.Getenv("WORK")
	v, _ := fakes.LoadOrStore(key, &fakeAgent{answers: map[string]fakeAnswer{}})
	fake := v.(*fakeAgent)
	fake.mu.Lock()
	fake.answers[args[0]] = fakeAnswer{status, []byte(ts.ReadFile(args[2]))}
	fake.mu.Unlock()
	fake.once.Do(func() {
		s := httptest.NewServer(fake)
		ts.Defer(func() { s.CloseClientConnections(); s.Close(); fakes.Delete(key) })
		ts.Setenv("PEER_HTTP_ADDR", strings.TrimPrefix(s.URL, "http://"))
	})
}

var fakes sync.Map

type fakeAgent struct {
	once    sync.Once
	mu      sync.Mutex
	answers map[string]fakeAnswer
}

type fakeAnswer struct {
	status int
	body   []byte
}

func (f *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	a, ok := f.answers[r.URL.RequestURI()]
	if !ok {
		a, ok = f.answers[r.URL.Path]
	}
	f.mu.Unlock()
	switch {
	case !ok:
		http.Error(w, "no answer for "+r.URL.RequestURI(), http.StatusTeapot)
		return
	case a.status >= 400:
		w.Header().Set("Content-Type", "application/problem+json")
	case r.Header.Get("Accept") == "text/event-stream":
		w.Header().Set("Content-Type", "text/event-stream")
	default:
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// signal SIGNAL: sends it to the command started last in the background.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	sig, ok := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1,
	}[strings.Join(args, " ")]
	cmds := ts.BackgroundCmds()
	if !ok || len(cmds) == 0 {
		ts.Fatalf("usage: signal TERM|INT|HUP|KILL|USR1, with a command in the background")
	}
	ts.Check(cmds[len(cmds)-1].Process.Signal(sig))
}

// until PROGRAM ARG...: runs it again and again until it succeeds.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := ts.Exec(args[0], args[1:]...); (err == nil) != neg {
			return
		}
	}
	ts.Fatalf("%s does not come to that", strings.Join(args, " "))
}

// mode OCTAL FILE: the file has these permissions.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	fi, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", fi.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// usejson: the standard output of the last command is JSON, on one line or many.
func cmdJSON(ts *testscript.TestScript, _ bool, _ []string) {
	if out := ts.ReadFile("stdout"); !json.Valid([]byte(out)) {
		ts.Fatalf("not JSON: %q", out)
	}
}

// freeAddr is an address at which nobody listens.
func freeAddr() string { return "127.0.0.1:" + testcluster.FreePort() }

func emptyFile(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually fails the test when ok does not become true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Every verb has a manual that is one: a line, a paragraph, examples, and what
// it ends with; and every flag says what it does.
func TestManuals(t *testing.T) {
	var check func(v *verb)
	check = func(v *verb) {
		path := v.path()
		if v.short == "" || strings.TrimSpace(v.long) == "" || v.form == "" {
			t.Errorf("%s: no short, long or form", path)
		}
		for _, sub := range v.verbs {
			check(sub)
		}
		if v.verbs != nil {
			return
		}
		if v.run == nil {
			t.Errorf("%s runs nothing", path)
		}
		if v.examples == "" && v.name != "help" {
			t.Errorf("%s: no example", path)
		}
		for _, code := range v.exits {
			if exitTexts[code] == "" {
				t.Errorf("%s: exit code %d is not explained", path, code)
			}
		}
		for _, f := range v.flags {
			if _, usage, _ := strings.Cut(flagLine(f), "\t"); len(usage) < 5 {
				t.Errorf("%s: flag %v says nothing", path, f.Names())
			}
		}
	}
	for _, v := range verbs() {
		check(v)
		if !slices.Contains([]string{groupRun, groupAsk, groupLock, groupSetup}, v.group) {
			t.Errorf("%s is in no list", v.path())
		}
	}
}
