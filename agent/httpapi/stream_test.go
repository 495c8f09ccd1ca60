package httpapi_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// stream opens /v1/events and returns its lines.
func (e *endpoint) stream(target string, headers ...string) (net.Conn, *bufio.Reader) {
	e.t.Helper()
	c, r := e.raw(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", target, strings.Join(append(headers, ""), "\r\n")))
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		e.t.Fatalf("%s: %v %v", target, resp, err)
	}
	return c, bufio.NewReader(resp.Body)
}

// lines reads n lines that are not empty.
func lines(t *testing.T, r *bufio.Reader, n int) []string {
	t.Helper()
	var out []string
	for len(out) < n {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", out, err)
		}
		if line = strings.TrimRight(line, "\n"); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func TestEventStream(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		e := start(t, a)
		a.emit("joined", "old")
		_, r := e.stream("/v1/events")
		lines(t, r, 2) // greeting and retry
		a.emit("failed", "line\nand another")
		got := lines(t, r, 3)
		if got[0] != "id: 2" || got[1] != "event: failed" || !strings.Contains(got[2], `line\nand another`) {
			t.Errorf("got %q", got)
		}
		began := time.Now()
		if got := lines(t, r, 2); got[0] != ": still here" || time.Since(began) != 30*time.Second {
			t.Errorf("%q after %v, want two comments after 30s", got, time.Since(began))
		}
	})
}

func TestEventStreamBegins(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		e := start(t, a)
		for i := range 5 {
			a.emit("updated", fmt.Sprint(i+1))
		}
		a.change(func(a *fakeAgent) { a.oldest = 2 })
		tests := []struct {
			target, header string
			want           string // ids, and ! for a reset
		}{
			{"/v1/events?since=0", "", "!2 3 4 5"},
			{"/v1/events?since=3", "", "4 5"},
			{"/v1/events?since=3", "Last-Event-ID: 4", "5"},
			{"/v1/events", "Last-Event-ID: 1", "!2 3 4 5"},
			{"/v1/events?since=99", "", "!5"}, // of an earlier start of the agent
		}
		for _, tt := range tests {
			headers := []string{"Accept: application/x-ndjson"}
			if tt.header != "" {
				headers = append(headers, tt.header)
			}
			c, r := e.stream(tt.target, headers...)
			var got []string
			for range len(strings.Fields(tt.want)) {
				line := lines(t, r, 1)[0]
				var seq int
				var typ string
				if _, err := fmt.Sscanf(line, `{"seq":%d,"type":%q`, &seq, &typ); err != nil {
					t.Fatalf("%s: line %q: %v", tt.target, line, err)
				}
				if typ == "reset" {
					got = append(got, fmt.Sprintf("!%d", seq))
				} else {
					got = append(got, fmt.Sprint(seq))
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s %s: got %q, want %q", tt.target, tt.header, s, tt.want)
			}
			c.Close()
		}
	})
}

func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		a := newFakeAgent()
		e := start(t, a)
		_, deaf := e.stream("/v1/events")
		_, r := e.stream("/v1/events")
		lines(t, deaf, 2)
		lines(t, r, 2)
		for i := range 3 {
			a.emit("updated", fmt.Sprint(i))
			if got := lines(t, r, 3); got[0] != fmt.Sprintf("id: %d", i+1) {
				t.Errorf("the other stream: %q", got)
			}
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if m := e.get("/metrics").body; !strings.Contains(m, "peer_http_streams 1\n") {
			t.Errorf("the deaf stream lives on: %s", grep(m, "peer_http_streams"))
		}
		// Hours later the other one still gets what happens.
		go func() {
			time.Sleep(3 * time.Hour)
			a.emit("left", "b left")
		}()
		for {
			if line := lines(t, r, 1)[0]; line == "event: left" {
				break
			}
		}
	})
}
