// Command bare is the least an agent on memberlist can cost: memberlist with
// its LAN defaults, a join, a list of the members over HTTP, and nothing else.
// The command gossip measures it beside a peer and a serf agent, so that the
// price of what they add can be told from the price of the machine.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		name = flag.String("name", "", "`NAME` of this member")
		bind = flag.String("bind", "127.0.0.1:7946", "gossip at `HOST:PORT`")
		api  = flag.String("http", "127.0.0.1:7980", "list the members at `HOST:PORT`")
		join = flag.String("join", "", "join through `HOST:PORT`")
		key  = flag.String("key", "", "gossip key, `BASE64`")
	)
	flag.Parse()
	cfg, err := config(*name, *bind, *key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *api)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	ml, err := memberlist.Create(cfg)
	if err != nil {
		return fmt.Errorf("start memberlist: %w", err)
	}
	go http.Serve(l, members(ml)) //nolint:errcheck // it ends with the process
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for *join != "" {
		if _, err = ml.Join([]string{*join}); err == nil {
			break
		}
		log.Printf("[WARN] bare: join %s: %v", *join, err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
	<-ctx.Done()
	if err := ml.Leave(5 * time.Second); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return ml.Shutdown()
}

func config(name, bind, key string) (*memberlist.Config, error) {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return nil, fmt.Errorf("read --bind: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read --bind: %w", err)
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = name
	cfg.BindAddr, cfg.AdvertiseAddr = host, host
	cfg.BindPort, cfg.AdvertisePort = int(n), int(n)
	cfg.Events = events{}
	if key != "" {
		if cfg.SecretKey, err = base64.StdEncoding.DecodeString(key); err != nil {
			return nil, fmt.Errorf("read --key: %w", err)
		}
	}
	return cfg, nil
}

// members lists who memberlist holds alive.
func members(ml *memberlist.Memberlist) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		type member struct {
			Name string `json:"name"`
			Addr string `json:"addr"`
		}
		var out []member
		for _, n := range ml.Members() {
			out = append(out, member{strings.Clone(n.Name), n.Address()})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}

// events logs who goes.
type events struct{}

func (events) NotifyJoin(n *memberlist.Node)   { log.Printf("[INFO] bare: joined: %s", n.Name) }
func (events) NotifyLeave(n *memberlist.Node)  { log.Printf("[INFO] bare: gone: %s", n.Name) }
func (events) NotifyUpdate(n *memberlist.Node) {}
