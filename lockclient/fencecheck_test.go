package lockclient_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// steps are writes with a fence, and whether they are let through.
var steps = []struct {
	fence   string
	written bool
}{
	{"5", true},
	{"5", true}, // the same holder may write again
	{"4", false},
	{"10", true}, // greater, though not as text
	{"9", false},
	{"1795502696000001", true},
	{"999999999999999", false},
	{"9007199254740993", true},
	{"9007199254740992", false}, // the same, for whoever counts in doubles
}

func TestFenceCheckLua(t *testing.T) {
	inEveryWorld(t, func(t *testing.T, w world) {
		c, check := w.admin(), redis.NewScript(lockclient.FenceCheckLua)
		last := ""
		for _, s := range steps {
			written, err := check.Run(t.Context(), c, []string{"{r}", "{r}:fence"}, s.fence, "by "+s.fence).Bool()
			if err != nil || written != s.written {
				t.Fatalf("fence %s: got %v, %v, want %v", s.fence, written, err, s.written)
			}
			if written {
				last = "by " + s.fence
			}
			if v := c.Get(t.Context(), "{r}").Val(); v != last {
				t.Fatalf("after fence %s: %q is there, want %q", s.fence, v, last)
			}
		}
	})
}

// The statement is run by the only SQL that most machines have.
func TestFenceCheckSQL(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		testcluster.Unavailable(t, "sql", "no python3 with sqlite3 to run SQL in: install it to run this test")
	}
	var program strings.Builder
	program.WriteString(`import sqlite3
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE resource (id TEXT PRIMARY KEY, value TEXT, fence BIGINT NOT NULL DEFAULT 0)")
db.execute("INSERT INTO resource (id) VALUES ('r')")
sql = """` + lockclient.FenceCheckSQL + `"""
`)
	var want []string
	for _, s := range steps {
		program.WriteString(`print(db.execute(sql, {"1": "by ` + s.fence + `", "2": ` + s.fence + `, "3": "r"}).rowcount)` + "\n")
		if s.written {
			want = append(want, "1")
		} else {
			want = append(want, "0")
		}
	}
	cmd := exec.Command(python, "-c", program.String())
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "No module named") {
		testcluster.Unavailable(t, "sql", "python3 has no sqlite3: install it to run this test")
	}
	if got := strings.Fields(string(out)); err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, %v, want %v\n%s", got, err, want, out)
	}
}
