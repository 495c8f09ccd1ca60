package cluster

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/text"
)

// newTestLog returns memberlist's end of a logger and what comes out of it.
func newTestLog(level hclog.Level, now func() time.Time) (func(format string, args ...any), *bytes.Buffer) {
	var out bytes.Buffer
	l := newMemberlistLogger(hclog.New(&hclog.LoggerOptions{Output: &out, Level: level, DisableTime: true}), now)
	return l.Printf, &out
}

func TestMemberlistLines(t *testing.T) {
	long := strings.Repeat("x", 3*maxLogLine)
	for _, tt := range []struct{ in, want string }{
		{"[DEBUG] memberlist: Stream connection from=10.0.0.1:4711", "[TRACE] Stream connection: addr=10.0.0.1:4711"},
		{"[DEBUG] memberlist: Initiating push/pull sync with: a#1 10.0.0.1:7946", "[TRACE] Initiating push/pull sync with: a#1 10.0.0.1:7946"},
		{"[WARN] memberlist: Refuting a suspect message (from: a#1)", "[DEBUG] Refuting a suspect message (from: a#1)"},
		{"[DEBUG] memberlist: Failed UDP ping: a#1 (timeout reached)", "[DEBUG] Failed UDP ping: a#1 (timeout reached)"},
		{"[ERR] memberlist: Failed fallback TCP ping: timeout", "[DEBUG] Failed fallback TCP ping: timeout"},
		{"[WARN] memberlist: Got ping for unexpected node 'a#1' from=10.0.0.1:7946", "[DEBUG] Got ping for unexpected node 'a#1': addr=10.0.0.1:7946"},
		{"[INFO] memberlist: Suspect a#1 has failed, no acks received", "[DEBUG] Suspect a#1 has failed, no acks received"},
		{"[INFO] memberlist: Marking a#1 as failed, suspect timeout reached (2 peer confirmations)", "[DEBUG] Marking a#1 as failed, suspect timeout reached (2 peer confirmations)"},
		{"[DEBUG] memberlist: failed to join 10.0.0.1:7946: dial tcp", "[DEBUG] failed to join 10.0.0.1:7946: dial tcp"},
		{"Err: Could not set the deadline: closed", "[DEBUG] Err: Could not set the deadline: closed"},

		{
			"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.1:7946",
			"[WARN]  " + wrongKey + `: addr=10.0.0.1:7946 err="Decrypt packet failed: no installed keys could decrypt the message"`,
		},
		{
			"[ERR] memberlist: failed to receive: encryption is configured but remote state is not encrypted from=10.0.0.1:7946",
			"[WARN]  " + wrongKey + `: addr=10.0.0.1:7946 err="failed to receive: encryption is configured but remote state is not encrypted"`,
		},
		{
			`[ERR] memberlist: discarding packet with unacceptable label "other": from=[::ffff:10.0.0.1]:7946`,
			"[WARN]  " + wrongLabel + `: addr=10.0.0.1:7946 err="discarding packet with unacceptable label \"other\""`,
		},
		{
			"[ERR] memberlist: Message type (9) not supported from=[2001:db8::1]:7946 (packet handler)",
			"[WARN]  " + badGossip + `: addr=[2001:db8::1]:7946 err="Message type (9) not supported"`,
		},
		{"[WARN] memberlist: Got invalid checksum for UDP packet: 1, 2", "[WARN]  " + badGossip + `: err="Got invalid checksum for UDP packet: 1, 2"`},
		{
			"[ERR] memberlist: failed to receive: read tcp 10.0.0.2:7946->10.0.0.1:4711: i/o timeout from=10.0.0.1:4711",
			"[DEBUG] failed to receive: read tcp 10.0.0.2:7946->10.0.0.1:4711: i/o timeout: addr=10.0.0.1:4711",
		},

		// Unknown lines keep their level, errors excepted.
		{"[ERR] memberlist: something new", "[WARN]  something new"},
		{"[ERROR] memberlist: something new from=10.0.0.1:1", "[WARN]  something new: addr=10.0.0.1:1"},
		{"[WARN] something new", "[WARN]  something new"},
		{"[INFO] memberlist: something new", "[INFO]  something new"},
		{"[TRACE] memberlist: something new", "[TRACE] something new"},
		{"something new", "[INFO]  something new"},
		{"[FATAL] something new", "[INFO]  [FATAL] something new"},
		{"[ERR something new", "[INFO]  [ERR something new"},
		{"", "[INFO]  memberlist said nothing"},
		{"[ERR] memberlist:  ", "[WARN]  memberlist said nothing"},

		// A stranger's text forges neither a line nor a source.
		{"[INFO] memberlist: hello\n[ERROR] all is lost\x1b[2J\xff", "[INFO]  hello?[ERROR] all is lost?[2J?"},
		{
			"[WARN] memberlist: ignoring alive message for 'x from=9.9.9.9:9' (10.0.0.1:7946) because Vsn is not present",
			"[WARN]  " + badMember + `: err="ignoring alive message for 'x from=9.9.9.9:9' (10.0.0.1:7946) because Vsn is not present"`,
		},
		{"[ERR] memberlist: Decrypt packet failed: x from=<unknown address>", "[WARN]  " + wrongKey + `: err="Decrypt packet failed: x"`},
		{"[ERR] memberlist: Decrypt packet failed: x from=pipe", "[WARN]  " + wrongKey + `: err="Decrypt packet failed: x"`},
		{"[INFO] " + long, "[INFO]  " + long[:maxLogLine] + "…"},
		{"[INFO] " + strings.Repeat("x", maxLogLine-1) + "é", "[INFO]  " + strings.Repeat("x", maxLogLine-1) + "…"},
		{"[DEBUG] memberlist: Stream connection " + long + " from=10.0.0.1:1", "[TRACE] Stream connection " + long[:maxLogLine-len("Stream connection ")] + "…: addr=10.0.0.1:1"},
	} {
		printf, out := newTestLog(hclog.Trace, time.Now)
		printf("%s", tt.in)
		if got := strings.TrimSuffix(out.String(), "\n"); got != tt.want {
			t.Errorf("%.80q\n got %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

// Whoever moves to another memberlist learns here which lines are new.
func TestEveryLineOfMemberlistHasARule(t *testing.T) {
	file := sourceOfFunc(memberlist.DefaultLANConfig)
	if !filepath.IsAbs(file) {
		t.Skipf("NOT CHECKED: the source of memberlist is not known (%q), this test was built with -trimpath", file)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of memberlist beside %s: %v", file, err)
	}

	// Those that have no rule of their own, and why they need none.
	unruled := map[string]string{
		"%v":                           "a stranger's label error, by its source, or a join's",
		"Blocked alive":                "debug",
		"Ignoring CNAME":               "debug, of look-ups that are not made",
		"TCP-first lookup":             "debug, of look-ups that are not made",
		"Failed to shutdown transport": "once an end",
		"Failed to encode":             "a bug",
		"Failed to compress":           "a bug",
		"Failed to encrypt":            "a bug",
		"Encryption of message failed": "a bug",
		"Failed to parse address":      "a bug",
		"Error accepting TCP":          "of a transport that is not used",
		"Error reading UDP":            "of a transport that is not used",
	}
	used, lines := map[string]bool{}, 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(src, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !strings.HasPrefix(fun.Sel.Name, "Print") {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			format, err := strconv.Unquote(lit.Value)
			if err != nil || !strings.HasPrefix(format, "[") && !strings.HasPrefix(format, "Err: ") {
				return true
			}
			lines++
			l := parseMemberlistLine([]byte(format))
			for _, r := range memberlistRules {
				if r.text == l.kind {
					used[r.text] = true
					return true
				}
			}
			for begin := range unruled {
				if strings.HasPrefix(l.message, begin) {
					used[begin] = true
					return true
				}
			}
			t.Errorf("%s: %q has no rule", filepath.Base(f), format)
			return true
		})
	}
	if lines < 60 {
		t.Errorf("only %d lines found in %s", lines, filepath.Dir(file))
	}
	for begin := range unruled {
		if !used[begin] {
			t.Errorf("no line begins with %q any more", begin)
		}
	}
	for _, r := range memberlistRules {
		inError := strings.Contains(r.text, "receive: ") || strings.Contains(r.text, "state: ") || strings.Contains(r.text, "label") || r.text == "failed to join"
		if !used[r.text] && !inError {
			t.Errorf("rule %q fits no line", r.text)
		}
	}
	t.Logf("%d lines", lines)
}

func TestStrangersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		printf, out := newTestLog(hclog.Info, time.Now)
		knock := func(from string, times int) string {
			t.Helper()
			out.Reset()
			for range times {
				printf("[ERR] memberlist: Decrypt packet failed: x from=%s", from)
			}
			return strings.TrimSuffix(out.String(), "\n")
		}
		line := func(from, more string) string {
			return "[WARN]  " + wrongKey + ": addr=" + from + ` err="Decrypt packet failed: x"` + more
		}
		for _, step := range []struct {
			wait  time.Duration
			from  string
			times int
			want  string
		}{
			{0, "10.0.0.1:1", 1000, line("10.0.0.1:1", "")},
			{59 * time.Second, "10.0.0.1:2", 1, ""}, // another port is the same source
			{0, "10.0.0.2:1", 2, line("10.0.0.2:1", "")},
			{time.Second, "10.0.0.1:3", 5, line("10.0.0.1:3", " suppressed=1000")},
			{time.Minute, "10.0.0.1:3", 1, line("10.0.0.1:3", " suppressed=4")},
			{time.Hour, "10.0.0.1:3", 1, line("10.0.0.1:3", "")},
			{0, "10.0.0.2:1", 1, line("10.0.0.2:1", " suppressed=1")},
			// Whoever has one IPv6 address has the rest of its network.
			{0, "[2001:db8::1]:1", 3, line("[2001:db8::1]:1", "")},
			{0, "[2001:db8::2]:1", 3, ""},
			{0, "[2001:db8:0:1::1]:1", 3, line("[2001:db8:0:1::1]:1", "")},
		} {
			time.Sleep(step.wait)
			if got := knock(step.from, step.times); got != step.want {
				t.Errorf("%s × %d after %s\n got %s\nwant %s", step.from, step.times, step.wait, got, step.want)
			}
		}
	})
}

func TestSuppressedLinesAreTraced(t *testing.T) {
	printf, out := newTestLog(hclog.Trace, time.Now)
	for range 3 {
		printf("[ERR] memberlist: Decrypt packet failed: x from=10.0.0.1:1")
	}
	if w, tr := strings.Count(out.String(), "[WARN]"), strings.Count(out.String(), "[TRACE]"); w != 1 || tr != 2 {
		t.Errorf("%d warned, %d traced, want 1 and 2:\n%s", w, tr, out)
	}
}

func TestCrowdOfStrangersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := &memberlistWriter{
			log:     hclog.New(&hclog.LoggerOptions{Output: &out, DisableTime: true}),
			now:     time.Now,
			sources: limiter[netip.Addr]{most: maxLogSources},
		}
		flood := func() (lines int) {
			out.Reset()
			for i := range 10_000 { // forged sources, one packet each
				fmt.Fprintf(w, "[ERR] memberlist: Decrypt packet failed: x from=10.%d.%d.%d:7946\n", i>>16, i>>8&255, i&255)
				if len(w.sources.known) > maxLogSources {
					t.Fatalf("%d sources remembered", len(w.sources.known))
				}
			}
			return strings.Count(out.String(), "\n")
		}
		if n := flood(); n != maxLogSources+1 {
			t.Errorf("%d lines in the first minute, want %d", n, maxLogSources+1)
		}
		time.Sleep(10 * time.Second)
		if n := flood(); n != 0 {
			t.Errorf("%d lines more in the same minute, want none", n)
		}
		time.Sleep(time.Minute)
		n := flood()
		if n != maxLogSources+1 {
			t.Errorf("%d lines in the next minute, want %d", n, maxLogSources+1)
		}
		want := fmt.Sprintf("suppressed=%d ", 2*10_000-2*maxLogSources-1)
		if !strings.Contains(out.String(), "many sources") || !strings.Contains(out.String(), want) {
			t.Errorf("no line with %q for the crowd", want)
		}
		// A new one with a real trouble is named again when the crowd is gone.
		time.Sleep(time.Hour)
		out.Reset()
		fmt.Fprintf(w, "[ERR] memberlist: Decrypt packet failed: x from=192.168.0.1:7946\n")
		if !strings.Contains(out.String(), "addr=192.168.0.1:7946") || strings.Contains(out.String(), "many sources") {
			t.Errorf("got %s", out.String())
		}
	})
}

func TestSuppressedLinesAreNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		printf, out := newTestLog(hclog.Info, time.Now)
		knock := func(network, host int) {
			printf("[ERR] memberlist: Decrypt packet failed: x from=10.0.%d.%d:1", network, host)
		}
		for i := range maxLogSources {
			knock(0, i)
		}
		for range 7 {
			knock(0, 3)
		}
		// The next minute's sources take their places; the one too many tells
		// of those that were dropped.
		time.Sleep(time.Minute)
		for i := range maxLogSources + 1 {
			knock(1, i)
		}
		if !strings.Contains(out.String(), "suppressed=7 ") {
			t.Errorf("the 7 are lost:\n%s", out)
		}
	})
}

func TestOwnTroubleIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		printf, out := newTestLog(hclog.Info, time.Now)
		for range 300 { // as a host without a network does, 15 a second
			printf("[ERR] memberlist: Failed to send gossip to 10.0.0.1:7946: network is unreachable")
			time.Sleep(time.Second / 15)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines in 20 s, want 1:\n%s", n, out)
		}
		// Other trouble is not hidden by it.
		printf("[WARN] memberlist: Was able to connect to a#1 over TCP but UDP probes failed, network may be misconfigured")
		printf("[ERR] memberlist: new trouble: x")
		printf("[ERR] memberlist: new trouble: y")
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("%d lines, want 3:\n%s", n, out)
		}
	})
}

func TestLimiterSurvivesAClockSetBack(t *testing.T) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	printf, out := newTestLog(hclog.Info, func() time.Time { return now })
	printf("[ERR] memberlist: Decrypt packet failed: x from=10.0.0.1:1")
	now = now.Add(-24 * time.Hour)
	printf("[ERR] memberlist: Decrypt packet failed: x from=10.0.0.1:1")
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2: silent until the clock has caught up", n)
	}
}

func FuzzMemberlistLine(f *testing.F) {
	for _, s := range []string{
		"[ERR] memberlist: Decrypt packet failed: x from=10.0.0.1:7946",
		"[DEBUG] memberlist: Stream connection from=[::1]:1",
		"Err: Could not set the deadline: x",
		"[WARN] memberlist: Compound request had 3 truncated messages from=a (packet handler)",
		"[", "[ERR]", "from=", "x from= from=1.2.3.4:5", "a\nb\x1b",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var out bytes.Buffer
		w := &memberlistWriter{
			log:     hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace, DisableTime: true}),
			now:     time.Now,
			sources: limiter[netip.Addr]{most: maxLogSources},
			kinds:   limiter[string]{most: maxLogKinds},
		}
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatalf("%d of %d bytes, %v", n, len(p), err)
		}
		got := strings.TrimSuffix(out.String(), "\n")
		if got == "" || strings.HasPrefix(got, "[ERROR]") || text.Unprintable(got) >= 0 || len(got) > 4*maxLogLine {
			t.Fatalf("from %q came %q", p, got)
		}
	})
}

func BenchmarkSuppressedLine(b *testing.B) {
	w := &memberlistWriter{
		log:     hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Error}),
		now:     time.Now,
		sources: limiter[netip.Addr]{most: maxLogSources},
	}
	p := []byte("[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=10.0.0.1:7946\n")
	b.ReportAllocs()
	for b.Loop() {
		w.Write(p) //nolint:errcheck // it never fails
	}
}

// sourceOfFunc returns the file that f was compiled from.
func sourceOfFunc(f any) string {
	pc := reflect.ValueOf(f).Pointer()
	file, _ := runtime.FuncForPC(pc).FileLine(pc)
	return file
}
