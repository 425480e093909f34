"""mmrl: a gym for training (vision-)language policies by reward.

Everything a user needs is here: ``mmrl.make``, ``mmrl.rollout``, ``mmrl.RewardSuite``, ``mmrl.load_policy``, ...
"""

from mmrl.env import Env, EnvFamily, GymTextEnv, NoExpert, SingleTurnEnv
from mmrl.errors import BadInput
from mmrl.load import load_policy
from mmrl.make import make, make_vec
from mmrl.policy import Completion, Policy, Request
from mmrl.reward import RewardPlugin, RewardSuite, register_reward_plugin, reward_plugin
from mmrl.rollout import rollout
from mmrl.sample import Content, Image, Message, Part, Sample, Text, Video, from_openai, text_of, to_openai
from mmrl.score import RewardRecord, Score
from mmrl.spaces import ContentSpace, UnicodeText
from mmrl.trajectory import Group, Trajectory, Turn

__all__ = [
    "BadInput", "Completion", "Content", "ContentSpace", "Env", "EnvFamily", "Group", "GymTextEnv", "Image",
    "Message", "NoExpert", "Part", "Policy", "Request", "RewardPlugin", "RewardRecord", "RewardSuite", "Sample",
    "Score", "SingleTurnEnv", "Text", "Trajectory", "Turn", "UnicodeText", "Video", "from_openai", "load_policy",
    "make", "make_vec", "register_reward_plugin", "reward_plugin", "rollout", "text_of", "to_openai",
]  # fmt: skip
__version__ = "0.1.0"
