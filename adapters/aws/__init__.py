"""AWS as a source: EC2 instances, AMIs and snapshots, read by EBS direct. No volume, no instance and no bucket is made, only snapshots."""

from adapters.aws.refusals import Code
from adapters.aws.snapshots import Patience
from adapters.aws.source import AwsSource, aws_source

__all__ = ["AwsSource", "Code", "Patience", "aws_source"]
