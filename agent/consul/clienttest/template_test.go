package clienttest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/consul-template/config"
	"github.com/hashicorp/consul-template/manager"
	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
)

// consul-template renders who is well, and again when that changes.
func TestConsulTemplate(t *testing.T) {
	a := start(t, "a", nil, agent.ServiceConfig{Name: "web", Port: 80, Tags: []string{"v1"}, Check: agent.CheckConfig{TTL: time.Hour}})
	b := start(t, "b", []string{a.GossipAddr()}, agent.ServiceConfig{Name: "web", Port: 81, Addr: "10.0.0.2"})
	out := filepath.Join(t.TempDir(), "out")
	cfg := config.DefaultConfig().Merge(&config.Config{
		Consul: &config.ConsulConfig{Address: config.String(a.ConsulAddr())},
		Templates: &config.TemplateConfigs{{
			Contents:    config.String(`{{range service "web"}}{{.Node}}={{.Address}}:{{.Port}} {{end}}{{range services}}{{.Name}}{{.Tags}} {{end}}`),
			Destination: config.String(out),
		}},
	})
	cfg.Finalize()
	r, err := manager.NewRunner(cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Start()
	}()
	defer func() {
		r.Stop()
		<-done
	}()
	renders := func(want string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			select {
			case err := <-r.ErrCh:
				t.Fatal(err)
			default:
			}
			content, err := os.ReadFile(out)
			if got = string(content); err == nil && got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("it renders %q, want %q", got, want)
			}
		}
	}
	renders("b=10.0.0.2:81 web[v1] ")
	if err := local(t, a).Pass(t.Context(), "web", api.PassRequest{}); err != nil {
		t.Fatal(err)
	}
	renders("a=127.0.0.1:80 b=10.0.0.2:81 web[v1] ")
	if err := local(t, b).Register(t.Context(), "db", api.Registration{Port: 5432}); err != nil {
		t.Fatal(err)
	}
	renders("a=127.0.0.1:80 b=10.0.0.2:81 db[] web[v1] ")
	b.Kill()
	renders("a=127.0.0.1:80 db[] web[v1] ")
}
