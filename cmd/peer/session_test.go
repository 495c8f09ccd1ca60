//go:build linux

package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

var update = flag.Bool("update", false, "write golden files anew")

// A session is several people at terminals of their own, and what they see.
type session struct {
	t      *testing.T
	redis  *testcluster.RedisServer
	agent  *agent.Agent
	env    []string
	dir    string
	screen map[string]*screen
	told   map[string]int // how much of a screen is in out
	last   string         // who began the last command
	out    strings.Builder
}

const deploySh = `#!/bin/sh
echo "$PEER_NAME deploys, fence $PEER_LOCK_FENCE"
exec sleep 600
`

const serveSh = `#!/bin/sh
n=0
echo $$ >>pids
for p in $(cat pids); do kill -0 $p 2>/dev/null && n=$((n+1)); done
echo "$PEER_NAME serves, term $PEER_LOCK_FENCE, processes that serve: $n"
exec sleep 600
`

func newSession(t *testing.T) *session {
	t.Helper()
	r := testcluster.StartRedis(t)
	s := &session{t: t, redis: r, dir: t.TempDir(), screen: map[string]*screen{}, told: map[string]int{}}
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Bind, cfg.HTTP.Addr, cfg.Redis.URL = "a", "127.0.0.1:0", "127.0.0.1:0", "redis://"+r.Addr()
	a, err := agent.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	s.agent = a
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{{"deploy.sh", deploySh, 0o700}, {"serve.sh", serveSh, 0o700}, {"notes.txt", "", 0o600}} {
		if err := os.WriteFile(filepath.Join(s.dir, f.name), []byte(f.text), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	s.env = append(peerLock(t, r).Env, "PEER_HTTP_ADDR="+a.HTTPAddr(), "REDIS="+r.Addr(), "TERM=dumb")
	return s
}

// start begins command at the terminal of host.
func (s *session) start(host, command string) {
	s.t.Helper()
	if p := s.screen[host]; p != nil {
		s.t.Fatalf("%s: still runs when %q comes", host, command)
	}
	line := command
	if strings.HasPrefix(line, "peer ") {
		line = "exec " + line // so that what is killed is peer
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = s.dir
	cmd.Env = append(slices.Clone(s.env), "PEER_NAME="+host)
	s.screen[host], s.told[host] = open(s.t, cmd), 0
	s.last = host
	fmt.Fprintf(&s.out, "%s$ %s\n", host, command)
}

// tell writes down what the terminal of host shows since it was last looked at,
// up to upTo, or all.
func (s *session) tell(host string, upTo int) {
	text := s.screen[host].all()
	if upTo >= 0 {
		if i := strings.IndexByte(text[upTo:], '\n'); i >= 0 {
			text = text[:upTo+i+1]
		}
	}
	news := strings.ReplaceAll(text[s.told[host]:], "\r\n", "\n")
	s.told[host] = len(text)
	if news != "" && !strings.HasSuffix(news, "\n") {
		news += "\n"
	}
	s.out.WriteString(s.label(host, news))
}

// label says whose terminal it is, where that is not clear.
func (s *session) label(host, text string) string {
	if len(s.screen) == 1 && host == s.last {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "%s| %s", host, line)
	}
	return b.String()
}

// await waits until the terminal of host shows text, with the line that it is in.
func (s *session) await(host, text string) {
	s.t.Helper()
	from := s.told[host]
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		all := s.screen[host].all()
		if i := strings.Index(all[from:], text); i >= 0 && strings.Contains(all[from+i:], "\n") {
			s.tell(host, from+i)
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s never shows %q; it shows %q. So far:\n%s", host, text, all, s.out.String())
		}
	}
}

// end waits until what runs at host has ended.
func (s *session) end(host string) {
	s.t.Helper()
	p := s.screen[host]
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		s.t.Fatalf("%s: does not end; it shows %q. So far:\n%s", host, p.all(), s.out.String())
	}
	p.drain()
	s.tell(host, -1)
	fmt.Fprint(&s.out, s.label(host, fmt.Sprintf("[exit %d]\n", p.code())))
	delete(s.screen, host)
}

// play does what one line of the script says.
func (s *session) play(line string) {
	s.t.Helper()
	if line == "" || strings.HasPrefix(line, "==") {
		s.out.WriteString(line + "\n")
		return
	}
	host, rest := line[:1], strings.TrimSpace(line[min(2, len(line)):])
	switch {
	case strings.HasPrefix(line, "kill -9 "):
		host = strings.TrimPrefix(line, "kill -9 ")
		fmt.Fprintf(&s.out, "(kill -9 of what runs at %s)\n", host)
		if err := s.screen[host].cmd.Process.Kill(); err != nil {
			s.t.Fatal(err)
		}
	case line[1] == '$':
		s.start(host, rest)
		s.end(host)
	case line[1] == '>':
		s.start(host, rest)
	case line[1] == ':':
		s.await(host, rest)
	case line[1] == '.':
		s.end(host)
	case line[1:] == "^C":
		s.screen[host].enter(keyInterrupt)
	default:
		s.t.Fatalf("what is %q?", line)
	}
}

var (
	sessionPID   = regexp.MustCompile(`(\bpid |\b[a-z]/)\d+`)
	sessionFence = regexp.MustCompile(`\b\d{16}\b`)
	sessionLease = regexp.MustCompile(`(fence-\d+  )\S+`)
	sessionGap   = regexp.MustCompile(` {2,}`)
)

// normal takes out of a transcript what differs each time. Fences are numbered by
// their size: that they rise shows.
func (s *session) normal() string {
	text := strings.ReplaceAll(s.out.String(), s.redis.Addr(), "127.0.0.1:6379")
	text = sessionPID.ReplaceAllString(text, "${1}PID")
	fences := sessionFence.FindAllString(text, -1)
	slices.Sort(fences)
	fences = slices.Compact(fences)
	text = sessionFence.ReplaceAllStringFunc(text, func(f string) string {
		return fmt.Sprint("fence-", slices.Index(fences, f)+1)
	})
	text = strings.ReplaceAll(text, "fence fence-", "fence-")
	text = sessionGap.ReplaceAllString(text, "  ")
	return sessionLease.ReplaceAllString(text, "${1}1s")
}

// What people see who lock on the command line. README.md shows pieces of it.
func TestLockSession(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	script, err := os.ReadFile("testdata/session/lock.session")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(script)), "\n") {
		if !strings.HasPrefix(line, "# ") {
			s.play(line)
		}
	}
	got := strings.TrimSpace(s.normal()) + "\n"
	const golden = "testdata/session/lock.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it differs from %s, which -update writes anew. Got:\n%s", golden, got)
	}
	s.checkReadme(got)
}

// README.md shows lines of the session in their order, and metrics that there are.
func (s *session) checkReadme(golden string) {
	t := s.t
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Who may go in\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, shown, _ := strings.Cut(section, "```console\n")
	shown, _, _ = strings.Cut(shown, "```")
	rest, n := "\n"+golden, 0
	for line := range strings.Lines(shown) {
		_, after, ok := strings.Cut(rest, "\n"+line)
		if !ok {
			t.Errorf("README.md shows a line that the session does not have there: %s", line)
			continue
		}
		rest, n = "\n"+after, n+1
	}
	if n < 10 {
		t.Errorf("README.md shows %d lines of the session", n)
	}
	c, err := api.NewClient(s.agent.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := c.Raw(t.Context(), http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`(peer_[a-z_]+)`").FindAllStringSubmatch(section, -1)
	for _, m := range names {
		if !strings.Contains(string(metrics), "# TYPE "+m[1]+" ") {
			t.Errorf("README.md names a metric that there is not: %s", m[1])
		}
	}
	if len(names) < 8 {
		t.Errorf("README.md names %d metrics of locks", len(names))
	}
}
