"""Tests of one server again, as they are, on two nodes behind nginx: nobody can tell the difference."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e import test_administration, test_garbage, test_log
from tests.support.administration import Administered
from tests.support.cluster import Cluster
from tests.support.issuer import LocalIssuer
from tests.support.processes import RunningService

monitor, some = test_log.monitor, test_log.some
test_the_signed_root_is_that_of_the_entries = test_log.test_the_signed_root_is_that_of_the_entries
test_every_certificate_is_in_the_log = (
    test_log.test_every_certificate_is_in_the_log_before_it_is_out_at_the_index_its_sct_names
)
test_extra_data = test_log.test_the_entrys_extra_data_is_the_precertificate_and_its_chain
test_proofs_hold = test_log.test_proofs_by_hash_and_of_consistency_hold_for_any_sizes
test_a_range_is_clamped = test_log.test_a_range_beyond_the_tree_is_clamped_not_refused
test_garbage_keys_are_refused = test_garbage.test_garbage_keys_requests_and_proofs_are_refused
test_garbage_log_queries_are_refused = test_garbage.test_garbage_log_queries_are_refused
test_administrators_and_signers = (
    test_administration.test_an_administrators_token_gets_no_certificate_and_a_signers_does_not_administer
)
test_an_act_counts_at_once = (
    test_administration.test_an_act_over_the_network_counts_at_once_and_is_recorded_with_who_and_from_where
)
test_the_whole_record = test_administration.test_json_lines_carry_the_whole_record


@pytest.fixture
def service(cluster: Cluster) -> RunningService:
    """Both nodes, by the address of nginx: on a port without TLS, since these tests know no certificate."""
    return replace(cluster.nodes[0].service, url=cluster.plain)


@pytest.fixture
def tokens(cluster: Cluster) -> LocalIssuer:
    return cluster.signers


@pytest.fixture
def trust(service: RunningService, tmp_path: Path) -> Path:
    return service.export_trust(tmp_path / "trust")


@pytest.fixture
def world(cluster: Cluster, service: RunningService) -> Administered:
    return Administered(service, cluster.signers, cluster.staff)
