// Command deployment reads the files in config-examples/ that deploy Harbinger by the code of those who will run them, and
// prints what they make of them as one JSON document.
//
//	deployment dockerfile FILE CONTEXT   BuildKit: what `docker build --check` warns of, the image's configuration, the context's files
//	deployment compose FILE              Docker Compose: the project as it would be started, every path resolved
//	deployment kubernetes FILE           Kubernetes: the manifests, decoded strictly; what Pod Security "restricted" forbids in them
//
// A file that its program would refuse ends with code 1 and that program's words. What is good or bad about a file that is
// accepted is not said here but in test_deployment.py. Nothing is fetched: of base images nothing but the name is known.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	found, err := read(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(arguments []string) (any, error) {
	switch {
	case len(arguments) == 3 && arguments[0] == "dockerfile":
		return dockerfile(arguments[1], arguments[2])
	case len(arguments) == 2 && arguments[0] == "compose":
		return compose(arguments[1])
	case len(arguments) == 2 && arguments[0] == "kubernetes":
		return kubernetes(arguments[1])
	}
	return nil, errors.New("deployment dockerfile FILE CONTEXT | compose FILE | kubernetes FILE")
}

type warning struct {
	Rule string `json:"rule"`
	Text string `json:"text"`
	Line int    `json:"line"`
}

type build struct {
	Warnings []warning `json:"warnings"`
	Image    any       `json:"image"`
	// Files of the context that .dockerignore leaves in.
	Context []string `json:"context"`
}

// unknownImage stands for every base image: they are in registries, which this program does not ask.
type unknownImage struct{}

func (unknownImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", []byte(`{"architecture": "amd64", "os": "linux", "config": {}}`), nil
}

func dockerfile(file, root string) (any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := build{Warnings: []warning{}}
	result, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, dockerfile2llb.ConvertOpt{
		Config:       dockerui.Config{LinterConfig: &linter.Config{ExperimentalAll: true}},
		MetaResolver: unknownImage{},
		AllStages:    true,
		Warn: func(rule, _, _, text string, location []parser.Range) {
			w := warning{Rule: rule, Text: text}
			if len(location) > 0 {
				w.Line = location[0].Start.Line
			}
			found.Warnings = append(found.Warnings, w)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	found.Image = result.Image
	found.Context, err = contextOf(root)
	return found, err
}

func contextOf(root string) ([]string, error) {
	ignore, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return nil, err
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		return nil, err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, err
	}
	var files []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		out, err := ignored.MatchesOrParentMatches(name)
		switch {
		case err != nil:
			return err
		case out && entry.IsDir() && !ignored.Exclusions():
			return filepath.SkipDir
		case !out && !entry.IsDir():
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

func compose(file string) (any, error) {
	// Only what is in the file and its defaults counts, so no environment is given.
	options, err := cli.NewProjectOptions([]string{file}, cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

type forbidden struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

type manifests struct {
	Objects []runtime.Object `json:"objects"`
	// What a namespace that enforces the restricted Pod Security Standard would refuse.
	Forbidden []forbidden `json:"forbidden"`
}

func kubernetes(file string) (any, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	restricted, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := manifests{Forbidden: []forbidden{}}
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("%s, document %d: %w", file, number, err)
		}
		found.Objects = append(found.Objects, object)
		var pod *corev1.PodTemplateSpec
		switch workload := object.(type) {
		case *appsv1.StatefulSet:
			pod = &workload.Spec.Template
		case *appsv1.Deployment:
			pod = &workload.Spec.Template
		case *appsv1.DaemonSet:
			pod = &workload.Spec.Template
		default:
			continue
		}
		level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		for _, check := range restricted.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !check.Allowed {
				found.Forbidden = append(found.Forbidden, forbidden{kind.Kind, check.ForbiddenReason, check.ForbiddenDetail})
			}
		}
	}
}
