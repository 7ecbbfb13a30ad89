// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"sealift/internal/launch"
)

func TestRoundTrip(t *testing.T) {
	in := launch.Spec{
		Args: []string{"grep", "${PD}/oui.csv"}, Env: []string{"LANG=C"}, Serve: launch.ServeStdio, Callers: launch.CallersAny,
		Ports: []launch.Port{{Name: "http", Port: 8080}}, MemoryBytes: 1 << 28, MaxProcs: 4, CPUSeconds: 5, Restart: launch.RestartNever, Name: "busybox", Kind: launch.KindProgram,
	}
	out, err := launch.Parse(in.Marshal())
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Fatalf("%+v, %v", out, err)
	}
	if !bytes.Equal(out.Marshal(), in.Marshal()) {
		t.Fatal("encoding differs")
	}
}

func TestDefaults(t *testing.T) {
	for _, data := range [][]byte{nil, launch.Spec{}.Marshal()} {
		s, err := launch.Parse(data)
		if err != nil || s.Serve != launch.ServeSocket || s.Callers != launch.CallersOwner || s.Restart != launch.RestartAlways {
			t.Fatalf("%+v, %v", s, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	for name, s := range map[string]launch.Spec{
		"serve":       {Serve: "tcp"},
		"callers":     {Callers: "nobody"},
		"restart":     {Restart: "maybe"},
		"env":         {Env: []string{"novalue"}},
		"env sealift": {Env: []string{"SEALIFT_PD=/"}},
		"nul":         {Args: []string{"a\x00b"}},
		"args":        {Args: make([]string, launch.MaxArgs+1)},
		"port name":   {Ports: []launch.Port{{Name: "a b"}}},
		"port twice":  {Ports: []launch.Port{{Name: "a"}, {Name: "a"}}},
		"kind":        {Kind: "java"},
		"entrypoint":  {Entrypoint: []string{"/a"}},
		"cpu":         {Kind: launch.KindProgram, CPUMillis: 1},
		"dir":         {Kind: launch.KindOCI, Dir: "relative"},
		"ports":       {Ports: make([]launch.Port, launch.MaxPorts+1)},
	} {
		if _, err := launch.Parse(s.Marshal()); !errors.Is(err, launch.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, data := range [][]byte{{0xff}, {0x80}, {0xa1, 1}, append(launch.Spec{}.Marshal(), 0), bytes.Repeat([]byte{0}, launch.MaxBytes+1)} {
		if _, err := launch.Parse(data); !errors.Is(err, launch.ErrInvalid) {
			t.Errorf("%x: %v", data[:1], err)
		}
	}
}

func TestExpand(t *testing.T) {
	got := launch.Expand([]string{"-d", "${PD}/x", "${HOME}", "${LISTEN}${PD}"}, map[string]string{"PD": "/pd", "LISTEN": "${PD}"})
	if strings.Join(got, " ") != "-d /pd/x ${HOME} ${PD}/pd" {
		t.Fatal(got)
	}
	if launch.PortVar("my-http") != "PORT_MY_HTTP" {
		t.Fatal(launch.PortVar("my-http"))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(launch.Spec{}.Marshal())
	f.Add(launch.Spec{Kind: launch.KindOCI, Entrypoint: []string{"/a"}, Dir: "/b", CPUMillis: 500}.Marshal())
	f.Add(launch.Spec{Args: []string{"a"}, Ports: []launch.Port{{Name: "p", Port: 1}}}.Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := launch.Parse(data)
		if err != nil {
			return
		}
		again, err := launch.Parse(s.Marshal())
		if err != nil || !bytes.Equal(again.Marshal(), s.Marshal()) {
			t.Fatalf("%+v: %v", s, err)
		}
	})
}
