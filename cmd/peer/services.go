package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

func servicesVerb() *verb {
	return &verb{
		name:  "services",
		form:  "[--eligible] [--local] [--tag TAG] [-o FORMAT] [--addr ADDR] [NAME] | register|deregister|pass|drain …",
		short: "what runs where, and how it is; register, drain",
		long: `
Lists the services of the whole cluster, or the one called NAME, host by host. A
service whose health is passing is handed out by ` + "`peer next NAME`" + `; one that warns
only when no other is left; one that is critical or draining not at all.

Services stand in the agent's peer.yaml, or are registered while it runs. With
-o json it is the body of GET /v1/services, unchanged; -o addr is HOST:PORT, one
a line.`,
		examples: `
			# everything
			peer services
			# where does web run, and is it well?
			peer services web
			# the addresses of those that are, for a script
			peer services --eligible -o addr web
			# announce a service beside this agent, checked every 10 s
			peer services register web --port 8080 --check http://127.0.0.1:8080/healthz`,
		exits: []int{exitNo, exitUnavailable, exitRefused},
		group: groupAsk,
		flags: clientFlags(
			&cli.BoolFlag{Name: "eligible", Usage: "only those that are handed out"},
			&cli.BoolFlag{Name: "local", Usage: "only those of the agent's own host, with what their checks found"},
			&cli.StringFlag{Name: "tag", Usage: "only those with the tag `TAG`"},
			addrOutputFlag()),
		max:   1,
		run:   runServices,
		verbs: []*verb{registerVerb(), deregisterVerb(), passVerb(), drainVerb()},
	}
}

// addrOutputFlag is -o of the verbs that print where something listens.
func addrOutputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print as `FORMAT`: table, wide, json, jsonl, name, addr (HOST:PORT) or template=TEXT (a Go template over the JSON)"}
}

func (inv *invocation) addrFormat() (format, error) {
	if inv.flag("output") == "addr" {
		return format{kind: "addr"}, nil
	}
	return inv.format()
}

func (inv *invocation) printAddr(addr string, port uint16) error {
	_, err := fmt.Fprintln(inv.stdout, cell(net.JoinHostPort(addr, strconv.Itoa(int(port)))))
	return err
}

func runServices(inv *invocation) error {
	f, err := inv.addrFormat()
	if err != nil {
		return err
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	q := api.ServicesQuery{Eligible: inv.cli.Bool("eligible"), Tag: inv.flag("tag")}
	body, err := c.Raw(inv, http.MethodGet, "/v1/services", q.Values(), nil)
	if err != nil {
		return err
	}
	var doc api.Services
	if err := json.Unmarshal(body, &doc); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	local := inv.cli.Bool("local")
	if len(inv.args) == 1 || local {
		doc.Services = slices.DeleteFunc(doc.Services, func(g api.ServiceGroup) bool { return len(inv.args) == 1 && g.Name != inv.args[0] })
		for i := range doc.Services {
			g := &doc.Services[i]
			g.Instances = slices.DeleteFunc(g.Instances, func(x api.ServiceInstance) bool { return local && !x.Self })
		}
		doc.Services = slices.DeleteFunc(doc.Services, func(g api.ServiceGroup) bool { return len(g.Instances) == 0 })
		if body, err = json.Marshal(doc); err != nil {
			return err
		}
		body = append(body, '\n')
	}
	if f.kind == "addr" {
		for _, g := range doc.Services {
			for _, i := range g.Instances {
				if err := inv.printAddr(i.Addr, i.Port); err != nil {
					return err
				}
			}
		}
	} else {
		var names []string
		for _, g := range doc.Services {
			names = append(names, g.Name)
		}
		err = inv.print(f, document{
			body: body, items: "services", names: names,
			table: func(t *table, wide bool) { drawServices(t, doc, wide, local) },
		})
	}
	if err == nil && len(doc.Services) == 0 {
		inv.note("no service matches")
		return withCode(exitNo, nil)
	}
	return err
}

func drawServices(t *table, doc api.Services, wide, local bool) {
	head := []string{"SERVICE", "NODE", "ADDR", "HEALTH", "WEIGHT", "TAGS"}
	if wide {
		head = append(head, "ELIGIBLE", "STATE", "META")
	}
	if local {
		head = append(head, "FROM", "CHECK", "FOUND")
	}
	t.header(head...)
	for _, g := range doc.Services {
		for _, i := range g.Instances {
			node, health, style := i.Node, i.Health, styleNone
			if i.Self {
				node += " *"
			}
			if health == "" {
				health = "-"
			}
			switch {
			case i.State != "alive":
				health, style = i.State, styleBad
			case i.Health == "critical":
				style = styleBad
			case i.Health == "warning" || i.Draining:
				style = styleWarn
			}
			if i.Draining {
				health += ", draining"
			}
			cells := []string{g.Name, node, net.JoinHostPort(i.Addr, strconv.Itoa(int(i.Port))), health, strconv.Itoa(i.Weight), strings.Join(i.Tags, ",")}
			if wide {
				cells = append(cells, strconv.FormatBool(i.Eligible), i.State, pairs(i.Meta))
			}
			if local {
				from, check, found := "", "-", "-"
				if i.Local != nil {
					from = i.Local.Origin
					if k := i.Local.Check; k != nil {
						check, found = k.Kind+" "+k.Target, k.Output
					}
				}
				cells = append(cells, from, check, found)
			}
			t.add(style, cells...)
		}
	}
}

func registerVerb() *verb {
	return &verb{
		name:  "register",
		form:  "NAME --port PORT [--check URL | --ttl DURATION] [--tag TAG] [--weight N] [--meta K=V] [--at HOST] [--addr ADDR]",
		short: "announce a service beside the agent",
		long: `
Announces the service NAME of the agent's own host to the whole cluster, or
replaces what was registered by that name. The agent keeps it over a restart when
it has a data dir. It checks it as it is told to; without a check the service
counts as well.

--check takes http(s)://… (any 2xx passes, 429 warns), tcp://HOST:PORT or
grpc://HOST:PORT[/SERVICE]. With --ttl the service itself gives signs of life:
` + "`peer services pass NAME`" + `.`,
		examples: `
			peer services register web --port 8080 --check http://127.0.0.1:8080/healthz
			peer services register db --port 5432 --check tcp://127.0.0.1:5432 --interval 2s --fall 2
			peer services register batch --port 9000 --ttl 1m`,
		exits: []int{exitUnavailable, exitRefused},
		flags: clientFlags(
			&cli.IntFlag{Name: "port", Usage: "it listens on `PORT`"},
			&cli.StringFlag{Name: "check", Usage: "ask `URL` whether it is well: http(s)://…, tcp://HOST:PORT or grpc://HOST:PORT[/SERVICE]"},
			&cli.DurationFlag{Name: "ttl", Usage: "it gives a sign of life at least every `DURATION`"},
			&cli.DurationFlag{Name: "interval", Usage: "check every `DURATION` (default 10s)"},
			&cli.DurationFlag{Name: "timeout", Usage: "a check takes `DURATION` at the most (default 5s)"},
			&cli.IntFlag{Name: "rise", Usage: "well after `N` good checks in a row (default 2)"},
			&cli.IntFlag{Name: "fall", Usage: "unwell after `N` bad checks in a row (default 3)"},
			&cli.StringSliceFlag{Name: "tag", Usage: "with the tag `TAG`; repeatable"},
			&cli.IntFlag{Name: "weight", Usage: "`N` times the share of one with weight 1", Value: 1},
			&cli.StringSliceFlag{Name: "meta", Usage: "with `K=V` beside it; repeatable"},
			&cli.StringFlag{Name: "at", Usage: "it listens at `HOST` (default: the agent's own address)"},
			&cli.BoolFlag{Name: "draining", Usage: "not to be handed out yet"}),
		min: 1, max: 1,
		mixed: true,
		run:   runRegister,
	}
}

func runRegister(inv *invocation) error {
	r := api.Registration{Addr: inv.flag("at"), Tags: splitAll(inv.flags("tag")), Draining: inv.cli.Bool("draining")}
	port, weight := inv.cli.Int("port"), inv.cli.Int("weight")
	if port < 1 || port > 65535 {
		return inv.usage("--port %d: want 1 to 65535", port)
	}
	r.Port, r.Weight = uint16(port), &weight
	for _, kv := range inv.flags("meta") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return inv.usage("--meta %q: want KEY=VALUE", kv)
		}
		if r.Meta == nil {
			r.Meta = map[string]string{}
		}
		r.Meta[k] = v
	}
	ms := func(name string) int64 { return inv.cli.Duration(name).Milliseconds() }
	k := api.ServiceCheck{TTLMS: ms("ttl"), IntervalMS: ms("interval"), TimeoutMS: ms("timeout"), Rise: inv.cli.Int("rise"), Fall: inv.cli.Int("fall")}
	if check := inv.flag("check"); check != "" {
		scheme, rest, _ := strings.Cut(check, "://")
		switch scheme {
		case "http", "https":
			k.HTTP = check
		case "tcp":
			k.TCP = rest
		case "grpc":
			k.GRPC = rest
		default:
			return inv.usage("--check %q: want http://…, https://…, tcp://HOST:PORT or grpc://HOST:PORT[/SERVICE]", check)
		}
	}
	if k != (api.ServiceCheck{}) {
		r.Check = &k
	}
	c, err := inv.client()
	if err != nil {
		return err
	}
	if err := c.Register(inv, inv.args[0], r); err != nil {
		return err
	}
	_, err = fmt.Fprintln(inv.stdout, "registered", cell(inv.args[0]))
	return err
}

func deregisterVerb() *verb {
	return &verb{
		name: "deregister", form: "[--addr ADDR] NAME", short: "take back a registration",
		long:     "Takes back the service NAME that was registered at the agent while it ran. One that stands in its configuration is taken out there.",
		examples: "\n\t\t\tpeer services deregister web",
		exits:    []int{exitNo, exitUnavailable, exitRefused},
		flags:    clientFlags(),
		min:      1, max: 1, mixed: true,
		run: func(inv *invocation) error {
			c, err := inv.client()
			if err != nil {
				return err
			}
			if err := c.Deregister(inv, inv.args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintln(inv.stdout, "deregistered", cell(inv.args[0]))
			return err
		},
	}
}

func passVerb() *verb {
	return &verb{
		name: "pass", form: "[--warning | --critical] [--output TEXT] [--addr ADDR] NAME", short: "a sign of life of a service with a ttl",
		long:     "Says that the service NAME, registered with a ttl, is well, or how it is. It lasts for the ttl.",
		examples: "\n\t\t\tpeer services pass batch\n\t\t\tpeer services pass batch --warning --output 'queue is long'",
		exits:    []int{exitNo, exitUnavailable, exitRefused},
		flags: clientFlags(
			&cli.BoolFlag{Name: "warning", Usage: "handed out only when no other is left"},
			&cli.BoolFlag{Name: "critical", Usage: "not to be handed out"},
			&cli.StringFlag{Name: "output", Usage: "show `TEXT` to who asks why"}),
		min: 1, max: 1, mixed: true,
		run: func(inv *invocation) error {
			r := api.PassRequest{Output: inv.flag("output")}
			switch {
			case inv.cli.Bool("warning") && inv.cli.Bool("critical"):
				return inv.usage("--warning and --critical: give one of them")
			case inv.cli.Bool("warning"):
				r.Health = "warning"
			case inv.cli.Bool("critical"):
				r.Health = "critical"
			}
			c, err := inv.client()
			if err != nil {
				return err
			}
			return c.Pass(inv, inv.args[0], r)
		},
	}
}

func drainVerb() *verb {
	return &verb{
		name: "drain", form: "[--off] [--wait DURATION] [--addr ADDR] NAME", short: "take a service of this host out of rotation, and back",
		long: `
Takes the service NAME of the agent's own host out of every host's rotation; it
stays visible, as draining. That holds over a restart, until --off puts it back.
With --wait it returns after DURATION more, in which others hear of it and finish
what they have begun.`,
		examples: "\n\t\t\tpeer services drain web --wait 5s && systemctl restart web && peer services drain web --off",
		exits:    []int{exitNo, exitUnavailable, exitRefused},
		flags: clientFlags(
			&cli.BoolFlag{Name: "off", Usage: "put it back"},
			&cli.DurationFlag{Name: "wait", Usage: "return after `DURATION`"}),
		min: 1, max: 1, mixed: true,
		run: func(inv *invocation) error {
			c, err := inv.client()
			if err != nil {
				return err
			}
			off := inv.cli.Bool("off")
			if err := c.Drain(inv, inv.args[0], !off); err != nil {
				return err
			}
			select {
			case <-time.After(inv.cli.Duration("wait")):
			case <-inv.Done():
				return inv.Err()
			}
			word := "draining"
			if off {
				word = "back in rotation:"
			}
			_, err = fmt.Fprintln(inv.stdout, word, cell(inv.args[0]))
			return err
		},
	}
}

// lateFlags reads the flags that stand behind the arguments, for verbs whose
// first argument is what they are about: `peer services register web --port 80`.
func (inv *invocation) lateFlags() error {
	var args []string
	for rest := inv.args; len(rest) > 0; {
		a := rest[0]
		rest = rest[1:]
		if a == "--" {
			args = append(args, rest...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			args = append(args, a)
			continue
		}
		name, value, given := strings.Cut(strings.TrimLeft(a, "-"), "=")
		i := slices.IndexFunc(inv.verb.flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
		if i < 0 {
			return inv.usage("%s", parseError(fmt.Errorf("flag provided but not defined: -%s", name), inv.verb, nil))
		}
		if _, isSwitch := inv.verb.flags[i].(*cli.BoolFlag); isSwitch && !given {
			value, given = "true", true
		}
		if !given {
			if len(rest) == 0 {
				return inv.usage("flag %s needs a value", dashed(name))
			}
			value, rest = rest[0], rest[1:]
		}
		if err := inv.cli.Set(name, value); err != nil {
			return inv.usage("invalid value %q for %s: %s", value, dashed(name), wantOf(inv.verb, name, "it does not parse"))
		}
	}
	inv.args = args
	return nil
}
