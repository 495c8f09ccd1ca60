package agent_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// Lines of the log that nobody read are told of, as a warning and as a metric.
func TestLostLogLinesAreTold(t *testing.T) {
	a := start(t, func(c *agent.Config) { c.Seams.LogDropped = func() uint64 { return 7 } })
	ws := a.Status(t.Context()).Warnings
	i := slices.IndexFunc(ws, func(w api.Warning) bool { return w.Code == "log_dropped" })
	if i < 0 || !strings.Contains(ws[i].Text, "7 lines") || ws[i].Fix == "" {
		t.Errorf("the warnings are %+v", ws)
	}
	r, err := http.Get("http://" + a.HTTPAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(body), "\npeer_log_lines_dropped_total 7\n") {
		t.Errorf("no such metric in %d bytes, %v", len(body), err)
	}
	if ws := start(t, nil).Status(t.Context()).Warnings; slices.ContainsFunc(ws, func(w api.Warning) bool { return w.Code == "log_dropped" }) {
		t.Errorf("warned of no loss: %+v", ws)
	}
}
