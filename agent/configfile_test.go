package agent_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent"
)

// write puts files into a new directory and returns the path of peer.yaml.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "peer.yaml")
}

func TestReadConfigFile(t *testing.T) {
	got, err := agent.ReadConfigFile(write(t, map[string]string{"peer.yaml": `
# a comment
name: a
bind: 10.0.0.1:7946
join: [b:7946, "c:7946"]
http:
  addr: 127.0.0.1:7981
  allowed_hosts: peer.lan   # one stands for a list of one
forget_after: 36h
redis: {url: "redis://127.0.0.1:6379", prefix: p}
tags: &tags
  rack: 007
  role: web
  on: true
  empty:
ready:
  require_redis: true
`}))
	if err != nil {
		t.Fatal(err)
	}
	want := agent.Config{
		Name: "a", Bind: "10.0.0.1:7946", Join: []string{"b:7946", "c:7946"},
		HTTP:        agent.HTTPConfig{Addr: "127.0.0.1:7981", AllowedHosts: []string{"peer.lan"}},
		ForgetAfter: 36 * time.Hour,
		Redis:       agent.RedisConfig{URL: "redis://127.0.0.1:6379", Prefix: "p"},
		Tags:        map[string]string{"rack": "007", "role": "web", "on": "true", "empty": ""},
		Ready:       agent.ReadyConfig{RequireRedis: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestConfigDirMerges(t *testing.T) {
	got, err := agent.ReadConfigFile(write(t, map[string]string{
		"peer.yaml":          "name: a\njoin: [b]\ntags: {x: '1', y: '1'}\n",
		"conf.d/20-two.yaml": "name: third\ntags: {y: '3'}\njoin: [d]\n",
		"conf.d/10-one.yml":  "name: second\ntags: {y: '2', z: '2'}\njoin: [c]\n",
		"conf.d/README":      "not: read",
		"conf.d/empty.yaml":  "# nothing\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := agent.Config{Name: "third", Join: []string{"b", "c", "d"}, Tags: map[string]string{"x": "1", "y": "3", "z": "2"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// Every mistake is reported, with its place and what was probably meant.
func TestConfigFileMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"nmae: a\n", `peer.yaml:1:1: unknown key "nmae"; did you mean "name"?`},
		{"http:\n  adr: x\n", `peer.yaml:2:3: unknown key "http.adr"; did you mean "http.addr"?`},
		{"zzzzzz: a\n", `peer.yaml:1:1: unknown key "zzzzzz"`},
		{"name: [a]\n", `peer.yaml:1:7: name: want one value, not a list`},
		{"name: {a: b}\n", `name: want one value, not a mapping`},
		{"http: 80\n", `peer.yaml:1:7: http: want a mapping of settings, not "80"`},
		{"join: {a: b}\n", `join: want a list, not a mapping`},
		{"join: [[a]]\n", `join[0]: want one value, not a list`},
		{"tags: [a]\n", `tags: want a mapping, not a list`},
		{"ready: {require_redis: yes please}\n", `ready.require_redis: want true or false, not "yes please"`},
		{"forget_after: 3 days\n", `peer.yaml:1:15: forget_after: want a duration such as 500ms, 10s or 72h, not "3 days"`},
		{"forget_after: -1s\n", `want a duration`},
		{"name: a\nname: b\n", `peer.yaml:2:1: mapping key "name" already defined`},
		{"name: 'a\n", `peer.yaml:1:7: `},
		{"name: a\n---\nname: b\n", `a second document`},
		{"- a\n", `the file: want a mapping of settings, not a list`},
		{"name: *x\n", `name: an alias; write the value out`},
		{"a\n", `the file: want a mapping of settings, not "a"`},
	} {
		_, err := agent.ReadConfigFile(write(t, map[string]string{"peer.yaml": c.text}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
	_, err := agent.ReadConfigFile(write(t, map[string]string{
		"peer.yaml":       "nam: a\nhttp: {adr: b, sockt: c}\n",
		"conf.d/one.yaml": "redis: {prefx: d}\n",
	}))
	for _, want := range []string{`"nam"`, `"http.adr"`, `"http.sockt"`, `one.yaml:1:9: unknown key "redis.prefx"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func TestConfigFileAbsent(t *testing.T) {
	_, err := agent.ReadConfigFile(filepath.Join(t.TempDir(), "peer.yaml"))
	if err == nil || !strings.Contains(err.Error(), "read configuration: open ") {
		t.Errorf("got %v", err)
	}
}

func FuzzReadConfigFile(f *testing.F) {
	f.Add("name: a\nhttp: {addr: b}\njoin: [c]\ntags: {d: e}\nforget_after: 1h\n")
	f.Add("a: &b [*b]\n<<: *b\n? [x]\n: !!int y\n")
	f.Add("redis: |\n  x\nname: >-\n  y\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := agent.ReadConfigFile(write(t, map[string]string{"peer.yaml": text}))
		if err != nil && !strings.Contains(err.Error(), "peer.yaml") {
			t.Errorf("an error that names no file: %v", err)
		}
	})
}
