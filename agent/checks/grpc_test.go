package checks_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/checks"
)

// A server that speaks the gRPC health protocol over HTTP/2 without TLS.
func TestGRPC(t *testing.T) {
	asked := make(chan string, 100)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /grpc.health.v1.Health/Check", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" {
			t.Errorf("%s %v", r.Proto, r.Header)
		}
		service := ""
		if len(body) > 7 {
			service = string(body[7:])
		}
		asked <- service
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		answer, code := "", "0"
		switch service {
		case "":
			answer = "\x00\x00\x00\x00\x02\x08\x01"
		case "down":
			answer = "\x00\x00\x00\x00\x02\x08\x02"
		case "unknown":
			code = "5"
		case "broken":
			answer = "\x00\x00\x00\x01\x02\x08\x01"
		case "large":
			answer = string(bytes.Repeat([]byte("x"), 1<<20))
		}
		_, _ = io.WriteString(w, answer)
		w.Header().Set("Grpc-Status", code)
	})
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	addr := strings.TrimPrefix(srv.URL, "http://")
	c := checks.Start(checks.Config{})
	t.Cleanup(c.Close)
	for service, want := range map[string]string{
		"":        "passing serving",
		"down":    "critical not serving",
		"unknown": `critical the gRPC server knows no service "unknown"`,
		"broken":  "critical what answers is no gRPC health service",
		"large":   "critical what answers is no gRPC server",
	} {
		target := addr
		if service != "" {
			target += "/" + service
		}
		if err := c.Set(service+"x", checks.Spec{GRPC: target}); err != nil {
			t.Fatal(err)
		}
		var st checks.Status
		for end := time.Now().Add(20 * time.Second); st.Checked.IsZero() && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			st, _ = c.Status(service + "x")
		}
		if got := st.Health + " " + st.Output; got != want {
			t.Errorf("service %q: got %s, want %s", service, got, want)
		}
		if got := <-asked; got != service {
			t.Errorf("asked for %q, want %q", got, service)
		}
	}
}
