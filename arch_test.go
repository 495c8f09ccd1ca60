// Package peer_test keeps the arrows between the packages of this module: what
// the compiler would allow and the design does not. Each arrow says why it is
// there; whoever wants to change one changes it here, in the open.
//
//	cmd/peer ─► agent ─► cluster       who is alive ─► cluster/internal/
//	   │          │                      core     the rule, without I/O
//	   │          │                      watch    streams between partners
//	   │          │                      port     UDP and TCP of the gossip port
//	   │          │                      keys     keys in force, rotation
//	   │          │                      address  bind, advertise, seeds
//	   │          │                      datadir  what outlives a restart
//	   │          │                      text     words; the only one that rooms share
//	   │          ├────► selector      whose turn
//	   │          └────► lockclient    who may go in
//	   ├──► agent/api                  a leaf: wire shapes and a client
//	   │      ▲
//	   │   agent/balance ─► selector   for programs beside an agent
//	   └──► lockclient, cluster        locks and keys need no agent
//	testcluster ─► all of them, and imported by tests only
package peer_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/peerhq/peer"

// edge is one import: in the Go file at path file, slashes and relative to the
// top, of the package pkg.
type edge struct{ file, pkg string }

// in says whether e stands in one of the rooms, or below it.
func (e edge) in(rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return strings.HasPrefix(e.file, r+"/") })
}

// of says whether e imports one of the packages, or one below it.
func (e edge) of(pkgs ...string) bool {
	return slices.ContainsFunc(pkgs, func(p string) bool { return e.pkg == p || strings.HasPrefix(e.pkg, p+"/") })
}

// ours says whether e imports one of this module's rooms.
func (e edge) ours(rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return e.of(module + "/" + r) })
}

func (e edge) test() bool { return strings.HasSuffix(e.file, "_test.go") }

// standard says whether e imports the standard library: its paths have no dot
// before the first slash.
func (e edge) standard() bool {
	first, _, _ := strings.Cut(e.pkg, "/")
	return !strings.Contains(first, ".")
}

// arrows are what must not be imported, and why.
var arrows = []struct {
	name   string
	why    string
	broken func(edge) bool
}{
	{
		"organs apart",
		"cluster, selector and lockclient never import one another, nor the agent that joins them: who is alive, whose turn and who may go in are three answers, each to be understood, tested and used without the others",
		func(e edge) bool {
			for _, room := range []string{"cluster", "selector", "lockclient"} {
				if e.in(room) {
					return e.of(module) && !e.ours(room) && !(e.test() && e.ours("testcluster"))
				}
			}
			return false
		},
	},
	{
		"cluster's rooms apart",
		"a package below cluster/internal imports neither cluster nor a room beside it, text apart: cluster joins them, and each is understood and tested without the others",
		func(e edge) bool {
			return e.in("cluster/internal") && e.of(module) && !e.ours(path.Dir(e.file), "cluster/internal/text") && !(e.test() && e.ours("testcluster"))
		},
	},
	{
		"selector alone",
		"selector is standard library only: programs import it to pick a peer in nanoseconds and must not pay for it in dependencies",
		func(e edge) bool { return e.in("selector") && !e.standard() && !e.ours("selector") },
	},
	{
		"api a leaf",
		"agent/api imports nothing of this module and nothing but the standard library: any Go program imports it to talk to the agent beside it, without building an agent into itself",
		func(e edge) bool {
			return e.in("agent/api") && !e.test() && !e.standard() && !e.ours("agent/api")
		},
	},
	{
		"balance light",
		"agent/balance imports agent/api, selector and the standard library only: programs that ask for a peer import it, and must not get an agent, a gossip port or a Redis client with it",
		func(e edge) bool {
			return e.in("agent/balance") && !e.test() && !e.standard() && !e.ours("agent/balance", "agent/api", "selector")
		},
	},
	{
		"Consul's shapes alone",
		"agent/consul imports nothing of this module: what its clients read is fixed by others, and must not move when our own shapes do; the agent tells it what runs where",
		func(e edge) bool {
			return e.in("agent/consul") && !e.test() && !e.standard() && !e.ours("agent/consul")
		},
	},
	{
		"core pure",
		"cluster/internal/core is a state machine over plain values: it reads no clock, draws no random number, opens no socket and starts nothing, so that a run is replayed from its inputs; what it may import is listed here",
		func(e edge) bool {
			return e.in("cluster/internal/core") && !e.test() && !slices.Contains(pure, e.pkg)
		},
	},
	{
		"memberlist in two rooms",
		"only cluster and the port under it know memberlist: it hides states and races, and cluster's own table is what everybody else may trust",
		func(e edge) bool {
			return e.of("github.com/hashicorp/memberlist") && path.Dir(e.file) != "cluster" && !e.in("cluster/internal/port")
		},
	},
	{
		"Redis in one room",
		"only lockclient knows Redis: what a lock promises is kept in one place, beside its scripts",
		func(e edge) bool { return e.of("github.com/redis/go-redis") && !e.in("lockclient", "testcluster") },
	},
	{
		"embedded Redis for dev and tests",
		"miniredis belongs to peer dev and to tests: no agent may stand on a Redis that dies with it",
		func(e edge) bool {
			return e.of("github.com/alicebob/miniredis") && !e.in("cmd/peer", "testcluster") && !e.test()
		},
	},
	{
		"flags in one room",
		"only cmd/peer knows the command line: a setting is a field of the Config of the package that uses it",
		func(e edge) bool { return e.of("github.com/urfave/cli") && !e.in("cmd/peer") },
	},
	{
		"testcluster for tests",
		"testcluster is imported by tests only: nothing of the simulated world may reach the shipped binary",
		func(e edge) bool { return e.ours("testcluster") && !e.in("testcluster") && !e.test() },
	},
	{
		"nothing above cmd",
		"nobody imports cmd/peer: what two commands share lives in the room that it is about",
		func(e edge) bool { return e.ours("cmd") && !e.in("cmd") },
	},
}

// pure are the packages that cluster/internal/core may import: values and
// algorithms. Of time it uses durations, and of net addresses.
var pure = []string{
	"bytes", "cmp", "encoding/binary", "errors", "fmt", "maps", "math", "math/bits", "net/netip", "slices", "strings", "time",
}

// drawers are directories that collect what nobody found a place for.
var drawers = []string{"util", "utils", "pkg", "common", "helper", "helpers", "misc", "shared"}

func TestArrows(t *testing.T) {
	edges, dirs := survey(t, ".")
	for _, e := range edges {
		for _, a := range arrows {
			if a.broken(e) {
				t.Errorf("%s imports %s.\n%s.", e.file, e.pkg, a.why)
			}
		}
	}
	for _, d := range dirs {
		if slices.Contains(drawers, path.Base(d)) {
			t.Errorf("there is a directory %s.\nA package is named for what it provides; what lies in a drawer called %q belongs to the room that uses it.", d, path.Base(d))
		}
	}
	if len(edges) < 20 {
		t.Errorf("saw %d imports only: is this the top of the module?", len(edges))
	}
}

// The arrows bite: each of these imports breaks the arrow named, or none.
func TestArrowsBite(t *testing.T) {
	for _, c := range []struct{ file, pkg, want string }{
		{"cluster/table.go", module + "/selector", "organs apart"},
		{"cluster/table.go", module + "/cluster/internal/keys", ""},
		{"cluster/internal/keys/wire.go", module + "/cluster", "cluster's rooms apart"},
		{"cluster/internal/keys/wire.go", module + "/cluster/internal/port", "cluster's rooms apart"},
		{"cluster/internal/port/port.go", module + "/cluster/internal/text", ""},
		{"cluster/internal/port/port_test.go", module + "/cluster/internal/port", ""},
		{"selector/ring.go", module + "/cluster", "organs apart, selector alone"},
		{"lockclient/acquire.go", module + "/agent/api", "organs apart"},
		{"lockclient/acquire_test.go", module + "/testcluster", ""},
		{"cluster/start_test.go", module + "/lockclient", "organs apart"},
		{"cluster/delegate.go", "github.com/hashicorp/memberlist", ""},
		{"cluster/internal/port/port.go", "github.com/hashicorp/memberlist", ""},
		{"cluster/internal/watch/watcher.go", "github.com/hashicorp/memberlist", "memberlist in two rooms"},
		{"cluster/internal/core/core.go", "net/netip", ""},
		{"cluster/internal/core/core.go", "net", "core pure"},
		{"cluster/internal/core/core.go", "math/rand/v2", "core pure"},
		{"cluster/internal/core/core.go", "sync", "core pure"},
		{"cluster/internal/core/core.go", module + "/cluster/internal/text", "core pure"},
		{"cluster/internal/core/sim_test.go", "math/rand/v2", ""},
		{"selector/bench_test.go", "google.golang.org/grpc", "selector alone"},
		{"selector/ring.go", "sync/atomic", ""},
		{"agent/api/client.go", module + "/cluster", "api a leaf"},
		{"agent/api/client.go", "github.com/hashicorp/go-hclog", "api a leaf"},
		{"agent/balance/watch.go", module + "/agent/api", ""},
		{"agent/balance/watch.go", module + "/selector", ""},
		{"agent/balance/watch.go", module + "/agent", "balance light"},
		{"agent/balance/watch.go", "google.golang.org/grpc", "balance light"},
		{"agent/balance/watch_test.go", module + "/testcluster", ""},
		{"agent/consul/handler.go", module + "/agent/api", "Consul's shapes alone"},
		{"agent/consul/handler.go", "net/http", ""},
		{"agent/agent.go", module + "/cluster", ""},
		{"agent/agent.go", "github.com/hashicorp/memberlist", "memberlist in two rooms"},
		{"agent/agent.go", "github.com/redis/go-redis/v9", "Redis in one room"},
		{"agent/agent.go", "github.com/alicebob/miniredis/v2", "embedded Redis for dev and tests"},
		{"cmd/peer/dev.go", "github.com/alicebob/miniredis/v2", ""},
		{"agent/config.go", "github.com/urfave/cli/v2", "flags in one room"},
		{"cmd/peer/dev.go", module + "/testcluster", "testcluster for tests"},
		{"agent/agent_test.go", module + "/testcluster", ""},
		{"agent/agent.go", module + "/cmd/peer", "nothing above cmd"},
	} {
		var got []string
		for _, a := range arrows {
			if a.broken(edge{c.file, c.pkg}) {
				got = append(got, a.name)
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s imports %s: got %q broken, want %q", c.file, c.pkg, s, c.want)
		}
	}
}

// timeValues are what cluster/internal/core may use of package time: no clock and
// no timer.
var timeValues = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}

// The core starts no goroutine, shares nothing by channels and reads no clock:
// its owner tells it what happened, and when.
func TestCoreIsPure(t *testing.T) {
	files, err := filepath.Glob("cluster/internal/core/*.go")
	if err != nil || len(files) < 5 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range impure(t, name, string(src)) {
			t.Error(s)
		}
	}
}

func TestImpureBites(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`const d = 3 * time.Second`, ""},
		{`func f() time.Duration { return time.Minute }`, ""},
		{`func f() { _ = time.Now() }`, "time.Now"},
		{`func f(t time.Time) {}`, "time.Time"},
		{`func f() { time.Sleep(1) }`, "time.Sleep"},
		{`func f() { go f() }`, "go statement"},
		{`var c chan int`, "channel"},
		{`func f() { select {} }`, "select statement"},
	} {
		got := strings.Join(impure(t, "x.go", "package core\nimport \"time\"\n"+c.body), ", ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.body, got, c.want)
		}
	}
}

// impure lists what the source of a file does that a state machine must not.
func impure(t *testing.T, name, src string) (found []string) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	note := func(n ast.Node, what string) { found = append(found, set.Position(n.Pos()).String()+": "+what) }
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			note(n, "a go statement")
		case *ast.ChanType:
			note(n, "a channel")
		case *ast.SelectStmt:
			note(n, "a select statement")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && !slices.Contains(timeValues, n.Sel.Name) {
				note(n, "time."+n.Sel.Name+": the owner of the core has the clock")
			}
		}
		return true
	})
	return found
}

// survey reads the imports of every Go file below root, whatever system it is
// for, and lists the directories. Modules of their own within
// are not ours to judge.
func survey(t *testing.T, root string) (edges []edge, dirs []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p == root {
				return nil
			}
			if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return filepath.SkipDir
			}
			dirs = append(dirs, filepath.ToSlash(p))
			return nil
		}
		if filepath.Ext(p) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			pkg, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			edges = append(edges, edge{filepath.ToSlash(p), pkg})
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the imports: %v", err)
	}
	return edges, dirs
}
