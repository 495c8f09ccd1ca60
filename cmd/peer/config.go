package main

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/peerhq/peer/agent"
	"github.com/urfave/cli/v2"
)

func configVerb() *verb {
	return &verb{
		name:  "config",
		form:  "validate|show|init",
		short: "check the settings, show them, begin a file",
		long:  "Works on the settings that `peer agent` would start with, given the same flags and environment.",
		group: groupSetup,
		verbs: []*verb{
			{
				name:  "validate",
				form:  "[FLAGS of peer agent]",
				short: "check the settings that an agent would start with",
				long: `
Reads flags, environment, file and conf.d as ` + "`peer agent`" + ` does, and the key and
password files that they name, and reports every mistake at once. What passes
here also starts, as far as ports and networks allow.`,
				examples: `
					peer config validate --config /etc/peer/peer.yaml`,
				exits: []int{exitConfig},
				flags: flagsOf(),
				run: func(inv *invocation) error {
					cfg, err := inv.settings()
					if err != nil {
						return err
					}
					for _, line := range inv.strayVariables() {
						inv.note("warning: %s", line)
					}
					if err := cfg.Validate(); err != nil {
						return withCode(exitConfig, err)
					}
					_, err = fmt.Fprintln(inv.stdout, "the settings are valid")
					return err
				},
			},
			{
				name:  "show",
				form:  "[--origin] [FLAGS of peer agent]",
				short: "print the settings that an agent would start with",
				long: `
Prints every setting as peer.yaml would have it, defaults included. Passwords in
URLs are left out. With --origin each one says where it comes from.`,
				examples: `
					PEER_HTTP_ADDR=127.0.0.1:7981 peer config show --origin`,
				exits: []int{exitConfig},
				flags: append(flagsOf(), &cli.BoolFlag{Name: "origin", Usage: "say where each setting comes from"}),
				run:   runConfigShow,
			},
			{
				name:  "init",
				form:  "[FILE]",
				short: "write a peer.yaml with every setting explained",
				long:  "Prints a peer.yaml in which every common setting stands as a comment, with its default. With FILE it is written there; a file that exists is never overwritten.",
				examples: `
					peer config init /etc/peer/peer.yaml`,
				max: 1,
				run: func(inv *invocation) error {
					if len(inv.args) == 0 {
						_, err := fmt.Fprint(inv.stdout, sampleConfig)
						return err
					}
					if err := writeNew(inv.args[0], sampleConfig); err != nil {
						return err
					}
					inv.note("written to %s", inv.args[0])
					return nil
				},
			},
		},
	}
}

func runConfigShow(inv *invocation) error {
	cfg, err := inv.settings()
	if err != nil {
		return err
	}
	given := make(map[string]string)
	for path, v := range leaves(reflect.ValueOf(cfg)) {
		if !v.IsZero() {
			given[path] = inv.origin(path)
		}
	}
	cfg = withDefaults(cfg)
	if u, err := url.Parse(cfg.Redis.URL); err == nil && u.User != nil {
		u.User = url.User(u.User.Username())
		cfg.Redis.URL = u.String()
	}
	if !inv.cli.Bool("origin") {
		b, err := yaml.Marshal(cfg)
		if err != nil {
			return err
		}
		_, err = inv.stdout.Write(b)
		return err
	}
	t := &table{}
	t.header("SETTING", "VALUE", "FROM")
	for path, v := range leaves(reflect.ValueOf(cfg)) {
		from := given[path]
		if from == "" {
			from = "default"
		}
		t.add(styleNone, path, shownSetting(v), from)
	}
	return t.write(inv.stdout, inv.colour(inv.stdout))
}

// withDefaults fills in what DefaultConfig has and c has not.
func withDefaults(c agent.Config) agent.Config {
	defaults := maps.Collect(leaves(reflect.ValueOf(agent.DefaultConfig())))
	for path, v := range leaves(reflect.ValueOf(&c).Elem()) {
		if v.IsZero() {
			v.Set(defaults[path])
		}
	}
	return c
}

// origin says which layer a setting that was given comes from.
func (inv *invocation) origin(path string) string {
	for _, f := range settingFlags {
		if f.path == path && inv.has(f.flag) {
			return "--" + f.flag
		}
	}
	if inv.env(variable(path)) != "" {
		return variable(path)
	}
	return "file"
}

func shownSetting(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Map:
		var out []string
		for it := v.MapRange(); it.Next(); {
			out = append(out, fmt.Sprintf("%v=%v", it.Key(), it.Value()))
		}
		sort.Strings(out)
		return strings.Join(out, ",")
	case reflect.Slice:
		return strings.Trim(fmt.Sprint(v.Interface()), "[]")
	}
	return fmt.Sprint(v.Interface())
}

const sampleConfig = `# peer.yaml: the settings of ` + "`peer agent`" + `. Every one may be left out; what stands
# here behind a # is an example or the default. Files in conf.d beside this one
# are read after it. ` + "`peer config validate`" + ` checks, ` + "`peer config show`" + ` prints
# the outcome. A flag or a variable (http.addr: PEER_HTTP_ADDR) goes before.

# name: web-1                  # unique in the cluster; default: the host name
# cluster: peer                # keeps clusters apart that meet by accident
# tags: {role: web, rack: r1}  # describe this host; peer members --tag role=web

# bind: 0.0.0.0:7946           # gossip, UDP and TCP; default 127.0.0.1:7946 without a key
# advertise: 10.0.0.1:7946     # default: found from the routes
# join: [peer-1, peer-2]       # tried for ever; one that answers is enough
# encrypt_file: /etc/peer/gossip.key   # peer keygen -o FILE; the same on every host
# data_dir: /var/lib/peer      # the members ever seen: heals a full outage without seeds

# http:
#   addr: 127.0.0.1:7980       # local endpoint, page and metrics; none: only the socket
#   socket: /run/peer/peer.sock
#   token_file: /etc/peer/http.token   # needed, with tls, beyond loopback
#   allowed_hosts: [peer.example.net]  # Host headers accepted beside localhost

# services:                    # what runs beside this agent; or: peer services register
#   - name: web                # a DNS label: web.service.peer, peer next web
#     port: 8080
#     addr: 10.0.1.1           # default: this host's own address
#     tags: [v2, canary]
#     weight: 1                # 1 to 1000: its share of the turns
#     meta: {path: /metrics}   # for whoever reads it
#     check:                   # one of http, tcp, grpc, ttl; default: none, it counts as well
#       http: http://127.0.0.1:8080/healthz
#       interval: 10s
#       timeout: 5s
#       rise: 2                # good results in a row that put it in rotation
#       fall: 3                # bad ones that take it out
# zone_tag: zone               # peers with our value of this tag come first

# dns:                         # web.service.peer, NAME.node.peer; default: none
#   addr: 127.0.0.1:8600       # UDP and TCP
#   domain: peer

# consul:                      # what Consul's clients read of services; default: none
#   addr: 127.0.0.1:8500

# redis:                       # locks; without it there are none
#   url: redis://10.0.0.9:6379
#   username: peer
#   password_file: /etc/peer/redis.password
#   prefix: "peer:"            # of the keys
#   wait_replicas: 0           # how many replicas must know of a grant before it counts
#   quiet_after_start: 0s      # a Redis that has just started grants nothing for so long
#   tls:                       # with rediss:// in the url
#     ca_file: /etc/peer/redis-ca.pem

# ready:
#   require_redis: false       # true: not ready while the Redis is away

# log: {level: info, format: text}
`
