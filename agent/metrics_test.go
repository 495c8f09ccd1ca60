package agent_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent"
)

// metrics returns what a scrape of a reads, line by line.
func metrics(t *testing.T, a *agent.Agent) []string {
	t.Helper()
	r, err := http.Get("http://" + a.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(body), "\n")
}
