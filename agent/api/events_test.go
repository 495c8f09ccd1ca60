package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/testcluster"
)

func streamOf(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, text)
	}
}

func TestEventsDecode(t *testing.T) {
	tests := []struct{ stream, want string }{
		{"", ""},
		{": hi\n\nretry: 5\n\n", ""},
		{"id: 1\nevent: joined\ndata: {\"seq\":1,\"type\":\"joined\"}\n\n", "1"},
		{"data:{\"seq\":1}\r\n\r\ndata: {\"seq\":\ndata: 2}\n\n", "1 2"},
		{"data: {\"seq\":1}\n\ndata: {\"seq\":2}", "1"}, // the last one is not complete
		{"data: {\"seq\":1}\n\ndata: nonsense\n\n", "1 !"},
		{"data: {\"seq\":1}\n\ndata: " + strings.Repeat("x", 2<<20) + "\n\n", "1 !"},
		{strings.Repeat("data: "+strings.Repeat("x", 1<<10)+"\n", 2<<10) + "\n", "!"},
	}
	for i, tt := range tests {
		c := served(t, streamOf(tt.stream))
		var got []string
		for e, err := range c.Events(t.Context(), 0) {
			if err != nil {
				got = append(got, "!")
			} else {
				got = append(got, fmt.Sprint(e.Seq))
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("stream %d: got %q, want %q", i, s, tt.want)
		}
	}
}

func FuzzEventsDecode(f *testing.F) {
	f.Add("data: {\"seq\":1}\n\n")
	f.Add("id: 1\nevent: x\ndata: {}\n\n: c\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		c, err := api.NewClient("h:1", api.WithDialer(func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				go io.Copy(io.Discard, server)
				fmt.Fprintf(server, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n%s", stream)
			}()
			return client, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range c.Events(t.Context(), 0) {
			if n++; err != nil {
				break
			}
		}
		if n > len(stream)+1 { // and an error
			t.Errorf("%d events out of %d bytes", n, len(stream))
		}
	})
}

// TestFollow breaks the stream again and again: no event is lost, none comes
// twice, the pauses grow, and each break is told once.
func TestFollow(t *testing.T) {
	testcluster.Bubble(t, func(t *testing.T) {
		var asked []string
		down := 0
		dial := func(context.Context, string, string) (net.Conn, error) {
			if down > 0 {
				down--
				return nil, errors.New("connection refused")
			}
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				buf := make([]byte, 4096)
				n, _ := server.Read(buf)
				line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
				asked = append(asked, line)
				var since int
				fmt.Sscanf(line, "GET /v1/events?since=%d", &since)
				fmt.Fprintf(server, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"+
					"data: {\"seq\":%d}\n\ndata: {\"seq\":%d}\n\n", since+1, since+2)
				if since == 2 {
					down = 6
				}
			}()
			return client, nil
		}
		c, err := api.NewClient("h:1", api.WithDialer(dial))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var got []string
		for e, err := range c.Follow(t.Context(), 0) {
			if err != nil {
				got = append(got, "!")
				continue
			}
			got = append(got, fmt.Sprint(e.Seq))
			if e.Seq == 6 {
				break
			}
		}
		if s := strings.Join(got, " "); s != "1 2 3 4 ! 5 6" {
			t.Errorf("got %q", s)
		}
		// 250 ms, then 0.25 + 0.5 + 1 + 2 + 4 + 8 + 10 s
		if d := time.Since(began); d < 20*time.Second || d > 30*time.Second {
			t.Errorf("took %v", d)
		}
		if len(asked) != 3 {
			t.Errorf("asked %q", asked)
		}
		c.Close()
	})
}

func TestFollowEnds(t *testing.T) {
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(401)
		io.WriteString(w, `{"type":"urn:peer:error:unauthorized","title":"token required","status":401}`)
	})
	n := 0
	for _, err := range c.Follow(t.Context(), 0) {
		n++
		var p *api.Problem
		if !errors.As(err, &p) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d errors, want one and the end", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c = served(t, streamOf("data: {\"seq\":1}\n\n"))
	var last error
	for _, err := range c.Follow(ctx, 0) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v, want the context's error", last)
	}
}
